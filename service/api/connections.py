"""Connections of clients that would hold the server up: heads too large or too slow, and answers that nobody reads.

Uvicorn takes a head of any size in any time: its parser has no limits. These stand around it.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.headers import ANSWER, NOT_KEPT, SecurityHeaders
from service.api.problems import MEDIA_TYPE, Problem, answer
from service.api.requests import OTHER, UNKNOWN, Book, Requests, given_id
from service.errors import Overloaded

__all__ = ["guarded"]

MOST_URL_BYTES = 8192
MOST_HEADERS = 100
MOST_HEAD_BYTES = 32_768
LOOK_SECONDS = 0.5


class _Refusal(Exception):
    """What is wrong with a head, raised through the parser."""


class _Guard:
    """One look at all connections, twice a second: a timer for each request would cost more than the rest of this."""

    def __init__(self, head_seconds: float, reader_seconds: float, *, access_log: bool) -> None:
        self.head_seconds = head_seconds
        self.reader_seconds = reader_seconds
        self.book = Book(access_log=access_log)
        self.overloaded = Requests(SecurityHeaders(_overloaded, {}), access_log=access_log)
        self._looking = False

    def watch(self, connections: set[Any]) -> None:
        """Look from now on, as long as there are connections."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, connections)

    def _look(self, connections: set[Any]) -> None:
        self._looking = False
        for connection in tuple(connections):
            connection.look()
        if connections:
            self.watch(connections)


class _GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, guard: _Guard, **arguments: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(**arguments)
        self._guard = guard
        self._served = self.app
        # Uvicorn's own refusal is plain text, without an id, and nobody counts it.
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._head_since: float | None = self.loop.time()
        """When the head that is awaited began; None while a request is served, and while uvicorn's own timer waits."""
        self._useless = 0
        """Bytes since any came of use: a head, or a part of a body."""
        self._unread, self._unread_since = 0, 0.0
        self._refused: tuple[int, str, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._guard.watch(self.connections)

    def data_received(self, data: bytes) -> None:
        self._useless += len(data)
        super().data_received(data)
        if self._useless > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "head-too-large", f"the request's head is larger than {MOST_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes behind a body in chunks would be added to the headers that the app has read already.
        if self._head_since is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) > MOST_URL_BYTES:
            self._refused = (414, "url-too-long", f"the URL is longer than {MOST_URL_BYTES:,} bytes")
        elif len(self.headers) > MOST_HEADERS:
            self._refused = (431, "head-too-large", f"the request has more than {MOST_HEADERS} headers")
        elif self._useless > MOST_HEAD_BYTES and self._head_bytes > MOST_HEAD_BYTES:
            self._refused = (431, "head-too-large", f"the request's head is larger than {MOST_HEAD_BYTES:,} bytes")
        if self._refused is not None:
            raise _Refusal
        self._head_since, self._useless = None, 0
        self.app = self._guard.overloaded if self._overloaded else self._served
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._useless = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's
        if self._refused is not None:
            self._refuse(*self._refused, method=self.parser.get_method().decode("ascii"))
        else:
            self._refuse(400, "invalid-http", "this is no HTTP/1.1 that can be read")

    def look(self) -> None:
        """End the connection if its client is too slow."""
        now = self.loop.time()
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        if self._head_since is not None and self._answering:
            self._head_since = now  # the head of a next request came early: it has its time when this one is answered
        elif self._head_since is not None and now - self._head_since > self._guard.head_seconds:
            if self._useless and not self.transport.is_closing():
                seconds = f"{self._guard.head_seconds:g} seconds"
                self._refuse(408, "too-slow", f"the request's head did not come within {seconds}")
            else:
                self.transport.close()
            self._head_since = None
        unread = self.transport.get_write_buffer_size()
        if not unread or unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since > self._guard.reader_seconds:
            self.transport.abort()

    @property
    def _overloaded(self) -> bool:
        return self._most is not None and (len(self.connections) > self._most or len(self.tasks) >= self._most)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse(self, status: int, name: str, detail: str, method: str = OTHER) -> None:
        """Answer with a problem, and close. The framework has not seen the request."""
        if self._answering and self.cycle.response_started:
            self.transport.close()  # what was written now would stand in the middle of another answer
            return
        # Behind its head a request is the app's, which has used its id already.
        awaited = self._head_since is not None
        request_id = (given_id(self.headers or ()) if awaited else b"") or self._guard.book.new_id()
        problem = Problem(
            type=f"urn:epochd:problem:{name}",
            title=name.replace("-", " ").capitalize(),
            status=status,
            detail=detail,
            instance="",
            error=detail,
            request_id=request_id.decode("ascii"),
        )
        body = problem.model_dump_json(exclude_none=True).encode()
        headers = (
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id),
            *ANSWER,
            *NOT_KEPT,
        )
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[HTTPStatus(status)] + head + b"\r\n" + body)
        self.transport.close()
        seconds = self.loop.time() - self._head_since if self._head_since is not None else 0.0
        self._guard.book.answered(method, UNKNOWN, str(status), seconds, request_id=problem.request_id)


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """What a request on one connection too many gets."""
    response = answer(Request(scope), Overloaded("too many clients are connected: try again soon"))
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


def guarded(*, head_seconds: float, reader_seconds: float, access_log: bool) -> Callable[..., asyncio.Protocol]:
    """What makes a connection's protocol, for uvicorn's `http`. A head has to come within `head_seconds`, counted from
    its first byte or from the beginning of the connection. A client that reads nothing of what it is sent for
    `reader_seconds` is cut off. With `access_log`, what is refused here has a line in the log as all else has.
    """
    guard = _Guard(head_seconds, reader_seconds, access_log=access_log)

    def make(**arguments: Any) -> asyncio.Protocol:  # noqa: ANN401 - uvicorn's
        return _GuardedProtocol(guard, **arguments)

    return make
