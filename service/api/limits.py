"""The largest body that is read."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit"]

DISCARDED_TIMES = 10


class BodyLimit:
    """Answers 413 as soon as a body is known to be larger than `max_bytes`, and never holds more than that.

    What a client is already sending is read and thrown away, up to ten times the limit: a connection that is closed
    while the client writes would lose the answer. A client that waits for `100 Continue` is answered at once.

    The framework's own limit answers in plain text, and problems are one format.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        too_large = announced.isdigit() and int(announced) > self._max_bytes
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            if too_large:
                waits = Headers(scope=scope).get("expect", "").lower() == "100-continue"
                await self._refuse(receive, unread=True, waits=waits)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                await self._refuse(receive, unread=message.get("more_body", False))
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, receive: Receive, *, unread: bool, waits: bool = False) -> None:
        thrown_away = 0
        while unread and not waits and thrown_away <= DISCARDED_TIMES * self._max_bytes:
            message = await receive()
            thrown_away += len(message.get("body", b""))
            unread = message["type"] == "http.request" and message.get("more_body", False)
        raise HTTPException(
            413,
            f"the body is larger than {self._max_bytes:,} bytes, the most that is read",
            headers={"Connection": "close"} if unread else None,  # else the rest would be taken for another request
        )
