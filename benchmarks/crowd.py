"""Many clients at once, each of which asks for something else as soon as it is answered.

They are connections of one process: asyncio with httptools' parser, so that the crowd costs the machine less than the
server does. What a client asks for is the caller's to say.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools
import uvloop

__all__ = ["Ask", "Next", "Tally", "send"]

PATIENCE_SECONDS = 60.0
REST_SECONDS = 0.1
"""Of a client whose connection broke, before it makes another."""
DELIBERATE = frozenset({"overloaded"})
"""Kinds of 503 by which a service says that it has enough to do. A database that is away is none of them."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request."""

    kind: str
    """What it is counted under."""
    message: bytes
    """Head and body, as they are sent."""
    learn: Callable[[bytes], None] = lambda _: None
    """Is given the body of an answer below 400."""


Next = Callable[[], Ask]


@dataclass(kw_only=True)
class Tally:
    """What came of it."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """To each answer below 400, by kind. A refusal is quick, and would make the others look so."""
    statuses: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Answers of a service that says it has enough to do, by what it said."""
    faults: Counter[str] = field(default_factory=Counter)
    """Everything else that was no success, by what it was: other errors, broken connections, no answer."""

    def count(self, ask: Ask, status: int, body: bytes, seconds: float) -> None:
        """Enter an answer."""
        self.statuses[status] += 1
        if status < 400:
            self.seconds[ask.kind].append(seconds)
            ask.learn(body)
            return
        said, detail = _said(body)
        if status == 429 or (status == 503 and said in DELIBERATE):
            self.refused[f"{ask.kind}: {status} {said}"] += 1
            return
        why = f" ({detail})" if status >= 500 and detail else ""  # other errors tell of the request, each of its own
        self.faults[f"{ask.kind}: {status} {said}{why}"] += 1

    def percentile(self, kind: str, percent: float) -> float:
        """Seconds within which so many of a kind were answered."""
        ordered = sorted(self.seconds[kind])
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def send(asks: Next, *, port: int, clients: int, seconds: float, look: Callable[[float], None]) -> Tally:
    """Let so many clients ask for so long. `look` is called four times a second with the part of the time that has
    passed, 0 to 1.
    """
    return uvloop.run(_send(asks, port, clients, seconds, look))


async def _send(asks: Next, port: int, clients: int, seconds: float, look: Callable[[float], None]) -> Tally:
    tally = Tally()
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(asks, tally, port, begun + seconds))
        while (passed := (time.perf_counter() - begun) / seconds) < 1:
            look(passed)
            await asyncio.sleep(0.25)
    return tally


class _Broken(Exception):
    """A connection that gave no answer."""


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self.usable = True

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            _Broken: the connection was closed, or what came is no HTTP.
        """
        self._answer = asyncio.get_running_loop().create_future()
        if not self.usable:
            raise _Broken("the connection was closed before it was used")
        self._transport.write(message)
        return await self._answer

    def close(self) -> None:
        """Let go of it."""
        self.usable = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(f"no HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._break("the connection was reset" if exc else "the connection was closed")

    def on_message_begin(self) -> None:
        """For httptools: an answer begins."""
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        """For httptools: a part of it."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """For httptools: it is complete."""
        self.usable = self.usable and self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._body)))

    def _break(self, how: str) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Broken(how))


async def _client(asks: Next, tally: Tally, port: int, until: float) -> None:
    connection: _Connection | None = None
    try:
        while time.perf_counter() < until:
            ask = asks()
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    if connection is None or not connection.usable:
                        connection = await _again(connection, port)
                    status, body = await connection.ask(ask.message)
            except (OSError, TimeoutError, _Broken) as error:
                tally.faults[f"{ask.kind}: {str(error) or 'no answer'}"] += 1
                if connection is not None:
                    connection.close()
                await asyncio.sleep(REST_SECONDS)
            else:
                tally.count(ask, status, body, time.perf_counter() - begun)
    finally:
        if connection is not None:
            connection.close()


async def _again(old: _Connection | None, port: int) -> _Connection:
    if old is not None:
        old.close()
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection


def _said(body: bytes) -> tuple[str, str]:
    """The name of the problem that an answer is, and its detail."""
    try:
        problem = json.loads(body)
        return str(problem["type"]).removeprefix("urn:epochd:problem:"), str(problem.get("detail", ""))
    except (ValueError, KeyError, TypeError):
        return "no problem details", ""
