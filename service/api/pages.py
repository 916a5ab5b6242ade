"""The page and the API's documentation, with every asset from this origin: they work without the internet."""

import importlib.util
import os
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import Scope

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
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _AskedAgain(StaticFiles):
    """Files that a browser asks for again each time, and mostly gets a 304: else one page would mix two versions."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Add the page at `/`, `/docs`, `/redoc`, and what they are made of."""
    app.mount("/assets/docs", StaticFiles(directory=DOCS_ASSETS), name="docs-assets")
    app.mount("/assets/web", _AskedAgain(directory=WEB), name="web-assets")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=HEADERS)

    @app.get("/assets/plotly.min.js", include_in_schema=False)
    async def plotly() -> FileResponse:
        return FileResponse(_plotly(), media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="epochd: API",
            swagger_js_url="/assets/docs/swagger-ui-bundle.js",
            swagger_css_url="/assets/docs/swagger-ui.css",
            swagger_favicon_url="/assets/docs/favicon.png",
        )

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> HTMLResponse:
        return get_redoc_html(
            openapi_url="/openapi.json",
            title="epochd: API reference",
            redoc_js_url="/assets/docs/redoc.standalone.js",
            redoc_favicon_url="/assets/docs/favicon.png",
            with_google_fonts=False,
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
