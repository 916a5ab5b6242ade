"""A load generator: some connections, each of which sends the next request when the answer to the last has come.

It is wrk where that is installed. Otherwise it is asyncio with httptools' parser, in one process; what it costs itself
is on the same machine in both cases, and the same for every server.
"""

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httptools
import uvloop

from benchmarks.report import median

__all__ = ["CONNECTIONS", "Load", "LoadError", "Request", "load", "middle", "name"]

CONNECTIONS = 8
GRACE_SECONDS = 30.0
WRK_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """A server did not bear it."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent again and again."""

    port: int
    path: str
    kind: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a server bore."""

    rate: float
    """Requests a second."""
    answered: float
    """Requests."""
    p50: float
    """Seconds to the answer, in the middle."""
    p99: float
    """Seconds within which 99% were answered."""


def name() -> str:
    """Which load generator this is."""
    return "wrk" if shutil.which("wrk") else f"asyncio with httptools {httptools.__version__}"


def load(request: Request, seconds: float) -> Load:
    """Send a request over all connections for so long.

    Raises:
        LoadError: something else than 200 was answered, or nothing.
    """
    return _wrk(request, seconds) if shutil.which("wrk") else uvloop.run(_own(request, seconds))


def middle(loads: Sequence[Load]) -> Load:
    """The median of each figure."""
    return Load(
        rate=median([one.rate for one in loads]),
        answered=median([one.answered for one in loads]),
        p50=median([one.p50 for one in loads]),
        p99=median([one.p99 for one in loads]),
    )


class _Connection(asyncio.Protocol):
    """One connection. `done` is set when the time is up and the last answer has come."""

    def __init__(self, message: bytes, until: float) -> None:
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._message = message
        self._until = until
        self._sent = 0.0
        self._body: list[bytes] = []
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(LoadError(f"the answer is no HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or LoadError("the server closed the connection"))

    def on_message_begin(self) -> None:
        """For httptools: an answer begins."""
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        """For httptools: a part of it."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """For httptools: it is complete."""
        now = time.perf_counter()
        if (status := self._parser.get_status_code()) != 200:
            self._fail(LoadError(f"{status}: {b''.join(self._body)[:500].decode(errors='replace')}"))
            return
        self.latencies.append(now - self._sent)
        if now < self._until:
            self._send()
        elif not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        """Let go of the connection."""
        self._transport.close()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._message)

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def _own(request: Request, seconds: float) -> Load:
    head = (
        f"POST {request.path} HTTP/1.1\r\nHost: 127.0.0.1:{request.port}\r\nContent-Type: {request.kind}\r\n"
        f"Content-Length: {len(request.body)}\r\n\r\n"
    )
    message = head.encode() + request.body
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    connections: list[_Connection] = []
    try:
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(
                lambda: _Connection(message, begun + seconds), "127.0.0.1", request.port
            )
            connections.append(connection)
        done, late = await asyncio.wait([one.done for one in connections], timeout=seconds + GRACE_SECONDS)
        for one in done:
            one.result()
        if late:
            raise LoadError(f"{len(late)} of {CONNECTIONS} requests were not answered in {GRACE_SECONDS:.0f} s")
        took = time.perf_counter() - begun
    except OSError as error:
        raise LoadError(f"no connection: {error}") from error
    finally:
        for connection in connections:
            connection.close()
    latencies = sorted(latency for connection in connections for latency in connection.latencies)
    return Load(
        rate=len(latencies) / took,
        answered=len(latencies),
        p50=latencies[len(latencies) // 2],
        p99=latencies[len(latencies) * 99 // 100],
    )


def _wrk(request: Request, seconds: float) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "post.lua")
        body.write_bytes(request.body)
        script.write_text(
            f'local file = io.open("{body}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n'
            f'wrk.headers["Content-Type"] = "{request.kind}"\n'
        )
        command = ["wrk", "--latency", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
        address = f"http://127.0.0.1:{request.port}{request.path}"
        done = subprocess.run([*command, address], capture_output=True, text=True, check=False)
    return _read_wrk(done.stdout + done.stderr)


def _read_wrk(printed: str) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    answered = re.search(r"(\d+) requests in ", printed)
    latencies = {
        percent: float(number) * WRK_UNITS[unit]
        for percent, number, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)$", printed, re.MULTILINE)
    }
    complete = {"50", "99"} <= latencies.keys() and "Non-2xx" not in printed and "Socket errors" not in printed
    if rate is None or answered is None or not complete:
        raise LoadError(f"wrk says:\n{printed}")
    return Load(rate=float(rate[1]), answered=float(answered[1]), p50=latencies["50"], p99=latencies["99"])
