"""The largest body that is read, and how long it may take to come."""

import asyncio
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit"]

DISCARDED_TIMES = 10
LOOK_SECONDS = 0.5


class BodyLimit:
    """Answers 413 as soon as a body is known to be larger than `max_bytes`, and never holds more than that; and 408
    when a body has not come after `max_seconds`.

    What a client is already sending is read and thrown away, up to ten times the limit: a connection that is closed
    while the client writes would lose the answer. A client that waits for `100 Continue` is answered at once.

    The framework's own limit answers in plain text, and problems are one format.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._deadlines = _Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        too_large = announced.isdigit() and int(announced) > self._max_bytes
        until = asyncio.get_running_loop().time() + self._max_seconds
        seen, complete = 0, False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()  # which waits for the client to go
            if too_large:
                waits = Headers(scope=scope).get("expect", "").lower() == "100-continue"
                await self._refuse(receive, unread=True, waits=waits)
            try:
                message = await self._deadlines.keep(receive, until)
            except TimeoutError:
                detail = f"the body did not come within {self._max_seconds:g} seconds"
                raise HTTPException(408, detail, headers={"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                await self._refuse(receive, unread=not complete)
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


class _Deadlines:
    """One look at all that wait, twice a second. `asyncio.timeout` takes a timer for each message, which costs 7% of
    a prediction.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._looking = False

    async def keep(self, receive: Receive, until: float) -> Message:
        """The next message.

        Raises:
            TimeoutError: it did not come until then, by the event loop's clock, or soon after.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a request is served by one
        self._waiting[task] = until
        if not self._looking:
            self._look()
        try:
            return await receive()
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            del self._waiting[task]
            self._late.discard(task)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, until in self._waiting.items():
            if now >= until and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._looking = bool(self._waiting)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look)
