"""What every request has, whatever becomes of it: an id, a place in the log, and a part of the metrics."""

import itertools
import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry import metrics, traces
from service.telemetry.logs import REQUEST

__all__ = ["OTHER", "UNKNOWN", "Book", "Requests", "given_id"]

log = logging.getLogger("epochd.access")

ID = re.compile(rb"[\x21-\x7e]{1,128}")
"""Without spaces, so that it is one word in a log."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Anybody can make up others, and every one would be a series of its own."""
OTHER = "OTHER"
UNKNOWN = "unmatched"
"""In place of a route's path where no route was found, for the same reason."""
ABORTED = "499"
"""In place of a status where the client went before there was one."""


class Book:
    """Names requests, counts them, and tells of them in the log."""

    def __init__(self, *, access_log: bool) -> None:
        self._level = logging.INFO if access_log else logging.DEBUG
        self._prefix = secrets.token_hex(8).encode()
        self._numbers = itertools.count(1)

    def new_id(self) -> bytes:
        """A name that no other request has."""
        return b"%s-%x" % (self._prefix, next(self._numbers))

    def answered(
        self,
        method: str,
        route: str,
        status: str,
        seconds: float,
        *,
        key_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """Add a request to the metrics, and to the log where it is wanted there. Neither the query nor the path as it
        was sent: both may hold what is nobody's business. The log knows the id of a request that is being served.
        """
        method = method if method in METHODS else OTHER
        metrics.requested(method, route, status, seconds)
        if not log.isEnabledFor(self._level):
            return
        fields: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": int(status),
            "duration_seconds": round(seconds, 6),
        }
        if key_id is not None:
            fields["key_id"] = key_id
        if request_id is not None:
            fields["request_id"] = request_id
        whose = f" key {key_id}" if key_id is not None else ""
        log.log(self._level, "%s %s %s in %.1f ms%s", method, route, status, seconds * 1000, whose, extra=fields)


class Requests:
    """Outermost, so that what is refused or fails further in is seen as well.

    A well-formed `X-Request-ID` is taken, or one is made; it goes into `scope["state"]` and into the answer.
    Predictions pass here: whatever is not needed for every one of them waits until it is.
    """

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._book = Book(access_log=access_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = self._name(scope)
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            if traces.active():
                await self._traced(scope, receive, named)
            else:
                await self._app(scope, receive, named)
        finally:
            seconds = time.perf_counter() - begun
            key_id = getattr(scope["state"].get("caller"), "key_id", None)
            answered = str(status) if status else ABORTED
            self._book.answered(scope["method"], _route(scope), answered, seconds, key_id=key_id)

    def _name(self, scope: Scope) -> bytes:
        """Take what the request is called, and under which span it was sent, into its state."""
        request_id = b""
        state = scope.setdefault("state", {})
        for name, value in scope["headers"]:
            if name == b"x-request-id" and ID.fullmatch(value):
                request_id = value
            elif name == b"traceparent" and traces.valid(parent := value.decode("latin-1")):
                state["trace_context"] = parent
        if not request_id:
            request_id = self._book.new_id()
        state["request_id"] = request_id.decode("ascii")
        REQUEST.set(state)
        return request_id

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        answered = 0

        async def seen(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
            await send(message)

        about = {"http.request.method": scope["method"], "epochd.request_id": state["request_id"]}
        with traces.span("HTTP", parent=state.get("trace_context"), kind="server", attributes=about) as span:
            state["trace_context"] = traces.current(span)
            try:
                await self._app(scope, receive, seen)
            finally:
                if span is not None:
                    span.update_name(f"{scope['method']} {_route(scope)}")
                    span.set_attributes({"http.route": _route(scope), "http.response.status_code": answered})


def given_id(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The well-formed id that a request was sent with, the last of several; empty where there is none."""
    return next((value for name, value in reversed(headers) if name == b"x-request-id" and ID.fullmatch(value)), b"")


def _route(scope: Scope) -> str:
    """The path of the route as it was written, with names for its parts."""
    path: str = getattr(scope.get("route"), "path", "")
    return path or UNKNOWN
