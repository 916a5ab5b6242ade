"""HEAD wherever GET is: probes, load balancers and download tools ask so."""

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HeadAsGet"]


class HeadAsGet:
    """Answers HEAD as GET would, without the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        with anyio.CancelScope() as answering:

            async def without_body(message: Message) -> None:
                if answering.cancel_called:
                    return
                if message["type"] == "http.response.body":
                    await send({**message, "body": b""})
                    return
                await send(message)
                if "content-length" not in Headers(raw=message["headers"]):
                    # A stream, which may never end: its head is all that was asked for.
                    await send({"type": "http.response.body", "body": b""})
                    answering.cancel()

            inner = {**scope, "method": "GET"}
            try:
                await self._app(inner, receive, without_body)
            finally:
                scope["route"] = inner.get("route")  # for whoever counts requests
