"""Headers that tell browsers what they may do with an answer. They cost programs nothing, and bind no one else.

After the OWASP Secure Headers Project (https://owasp.org/www-project-secure-headers/).
"""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ANSWER", "NOT_KEPT", "RawHeaders", "SecurityHeaders", "raw"]

RawHeaders = tuple[tuple[bytes, bytes], ...]

YEAR_SECONDS = 365 * 24 * 3600


def raw(headers: Mapping[str, str]) -> RawHeaders:
    """Headers as a server sends them, encoded once and not for each answer."""
    return tuple((name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items())


EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ANSWER = raw(EVERYWHERE | {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"})
"""Of what is no document: whoever makes a browser show it as one gets nothing that runs."""
DOCUMENT = {
    **EVERYWHERE,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Of what a browser shows as a page, besides its own policy: only there do these mean anything."""
OVER_TLS = raw({"Strict-Transport-Security": f"max-age={YEAR_SECONDS}"})


NOT_KEPT = raw({"Cache-Control": "no-store"})
"""Of an answer that says nothing of it: what one key may see, nobody shall find on a disk."""
FILES = "/assets/"


class SecurityHeaders:
    """Adds to every answer what its path wants, and forbids to keep it unless the route allows that.

    Where the connection is encrypted, as far as is known (`X-Forwarded-Proto` of a trusted proxy), browsers are told to
    come back by no other.
    """

    def __init__(self, app: ASGIApp, documents: Mapping[str, str]) -> None:
        """`documents` are the pages, by path, each with its Content-Security-Policy."""
        self._app = app
        pages = {path: raw(DOCUMENT | {"Content-Security-Policy": policy}) for path, policy in documents.items()}
        self._plain = pages
        self._encrypted = {path: headers + OVER_TLS for path, headers in pages.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["scheme"] == "https":
            added = self._encrypted.get(scope["path"], ANSWER + OVER_TLS)
        else:
            added = self._plain.get(scope["path"], ANSWER)

        may_keep = scope["path"] in self._plain or scope["path"].startswith(FILES)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = may_keep or any(name == b"cache-control" for name, _ in message["headers"])
                message["headers"] = [*message["headers"], *added, *(() if said else NOT_KEPT)]
            await send(message)

        await self._app(scope, receive, with_headers)
