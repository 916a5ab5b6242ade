"""The page and the API's documentation, with every asset from this origin: they work without the internet."""

import base64
import hashlib
import importlib.util
import os
import re
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from service.errors import NotInstalled

__all__ = ["install"]

DOCS_ASSETS = Path(fastapi_offline.__file__).parent / "static"
WEB = Path(__file__).parents[1] / "web"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Plotly draws with style attributes: fonts in a title, sharp pixels in a picture. They cannot run anything. The
        # style elements that it would add are not needed: `web/figure.js` keeps it from adding them.
        "style-src-attr 'unsafe-inline'",
        "img-src 'self' data:",  # Plotly's pictures are data
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may load (Content-Security-Policy, https://www.w3.org/TR/CSP3/)."""
ASKED_AGAIN = {"Cache-Control": "no-cache"}
INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def _whole(scope: Scope) -> Scope:
    """The request without its `Range`, as anybody may ignore it (RFC 9110, 14.2): the framework refuses in plain text
    what it cannot read, and problems are one format.
    """
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}


class _WholeFile(FileResponse):
    """A file that is never sent in parts."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Accept-Ranges"] = "none"
        await super().__call__(_whole(scope), receive, send)


class _Files(StaticFiles):
    """The same for each file of a folder."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(_whole(scope), receive, send)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Accept-Ranges"] = "none"
        return response


class _AskedAgain(_Files):
    """Files that a browser asks for again each time, and mostly gets a 304: else one page would mix two versions."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def install(app: FastAPI) -> dict[str, str]:
    """Add the page at `/`, `/docs`, `/redoc`, and what they are made of. Returns the policy of each by its path."""
    swagger, redoc = _swagger(), _redoc()
    app.mount("/assets/docs", _Files(directory=DOCS_ASSETS), name="docs-assets")
    app.mount("/assets/web", _AskedAgain(directory=WEB), name="web-assets")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return _WholeFile(WEB / "index.html", headers=ASKED_AGAIN)

    @app.get("/assets/plotly.min.js", include_in_schema=False)
    async def plotly() -> FileResponse:
        return _WholeFile(_plotly(), media_type="text/javascript", headers=ASKED_AGAIN)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(swagger)

    @app.get("/redoc", include_in_schema=False)
    async def redoc_() -> HTMLResponse:
        return HTMLResponse(redoc)

    return {"/": POLICY, "/docs": _policy_of(swagger), "/redoc": _policy_of(redoc)}


def _swagger() -> bytes:
    return bytes(
        get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="epochd: API",
            swagger_js_url="/assets/docs/swagger-ui-bundle.js",
            swagger_css_url="/assets/docs/swagger-ui.css",
            swagger_favicon_url="/assets/docs/favicon.png",
        ).body
    )


def _redoc() -> bytes:
    return bytes(
        get_redoc_html(
            openapi_url="/openapi.json",
            title="epochd: API reference",
            redoc_js_url="/assets/docs/redoc.standalone.js",
            redoc_favicon_url="/assets/docs/favicon.png",
            with_google_fonts=False,
        ).body
    )


def _policy_of(html: bytes) -> str:
    """The page's, and what Swagger UI and ReDoc need besides. The scripts in their pages are the framework's: each
    is allowed by the hash of what it says, and nothing else that stands in a page runs.
    """
    scripts = [hashlib.sha256(text.encode()).digest() for text in INLINE.findall(html.decode())]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in scripts]
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(["script-src 'self'", *hashes]),
            "style-src 'self' 'unsafe-inline'",  # both write style elements; these cannot run anything
            "img-src 'self' data:",
            "connect-src 'self'",
            "worker-src blob:",  # ReDoc's search
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _plotly() -> Path:
    """Where the wheel of `plotly` keeps its script. The package is found and not imported: that takes 32 MB.

    Raises:
        NotInstalled: it is not there.
    """
    found = importlib.util.find_spec("plotly")
    path = Path(found.origin).parent / "package_data" / "plotly.min.js" if found and found.origin else None
    if path is None or not path.is_file():
        raise NotInstalled("figures need Plotly where the service runs: pip install 'epochd[page]'")
    return path
