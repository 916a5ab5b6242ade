"""Sends requests as they are, over a socket, and looks at all that comes back."""

import contextlib
import json
import re
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.requests import KINDS, Sent, of_kind
from tests.fuzz.tally import Tally

__all__ = ["CANARY", "bombard", "complaint"]

CANARY = "canary 7f3a in the data folder"
"""What a file beside the database says: no answer may."""

ANSWER_SECONDS = 15
PATIENCE_SECONDS = 0.3
"""For an answer to what may have no end: the service waits longer for it."""
SILENCE = b"silence"
SHOWN = 400
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
CONTINUE = re.compile(rb"HTTP/1\.1 100 [^\r\n]*\r\n\r\n")
"""What may come before the answer, where a request expects it."""
INTERNAL = (
    b"Traceback (most recent",
    b'File "',
    b"site-packages",
    b"sqlalchemy",
    b"SQLite format 3",
    b"root:x:0:0",
    CANARY.encode(),
)


def bombard(url: str, *, cases: int, seed_: int, known: str) -> Tally:
    """Send about that many requests, an equal part of each kind, to the service at `url`, which has an experiment
    `known` with a model. The same seed makes the same requests.
    """
    tally = Tally()
    for kind in KINDS:
        _of_kind(kind, url, max(1, cases // len(KINDS)), seed_, known, tally)
    return tally


def _of_kind(kind: str, url: str, cases: int, seed_: int, known: str, tally: Tally) -> None:
    @seed(seed_)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(of_kind(kind, known))
    def send(sent: Sent) -> None:
        tally.cases[kind] += 1
        answer = _answer(url, sent)
        found = STATUS_LINE.match(answer)
        if found:
            tally.statuses[int(found[1])] += 1
        wrong = complaint(answer, sent)
        if wrong is not None:
            tally.fail(f"{kind}: {wrong}", repr(sent.data[:SHOWN]))

    ask: Callable[[], None] = send
    ask()


def _answer(url: str, sent: Sent) -> bytes:
    """All that the service says before it closes the connection, or the beginning of a stream of events."""
    address = urlsplit(url)
    got = b""
    with socket.create_connection((address.hostname or "", address.port or 80), ANSWER_SECONDS) as connection:
        # It is refused before all of it has come: its answer is there. Or it has no end: there is none.
        with contextlib.suppress(OSError):
            connection.sendall(sent.data)
        connection.settimeout(ANSWER_SECONDS if sent.whole else PATIENCE_SECONDS)
        try:
            while part := connection.recv(65536):
                got += part
                if b"\r\ncontent-type: text/event-stream" in got and b"\n\n" in got:
                    break
        except TimeoutError:
            return _final(got) or (SILENCE if sent.whole else b"")
        except OSError:
            pass
    return _final(got)


def _final(got: bytes) -> bytes:
    """The answer, without what told the client to go on."""
    interim = CONTINUE.match(got)
    return got[interim.end() :] if interim else got


def complaint(answer: bytes, sent: Sent) -> str | None:
    """What is wrong with an answer; None when it is right."""
    if not answer:
        return "no answer" if sent.whole else None
    found = STATUS_LINE.match(answer)
    if found is None:
        return f"no HTTP: {answer[:40]!r}"
    head, _, body = answer.partition(b"\r\n\r\n")
    status, headers = int(found[1]), _headers(head)
    if len(STATUS_LINE.findall(answer)) > 1:
        return "two answers to one request"
    if "x-injected" in headers:
        return "a header of the answer is the request's"
    if leak := next((one for one in INTERNAL if one in answer), None):
        return f"{status} tells {leak!r}"
    if "x-content-type-options" not in headers:
        return f"{status} without the headers that every answer has"
    return _wrong_body(status, headers.get("content-type", ""), body)


def _wrong_body(status: int, kind: str, body: bytes) -> str | None:
    if status >= 500 and b":overloaded" not in body:
        return f"{status}"
    if status >= 400:
        if kind != "application/problem+json":
            return f"{status} of the type {kind}"
        if body and not _is_problem(status, body):
            return f"{status} with an incomplete problem"
    elif kind == "application/json" and body and _read(body) is None:
        return f"{status} with a body that is no JSON"
    return None


def _is_problem(status: int, body: bytes) -> bool:
    problem = _read(body)
    return (
        isinstance(problem, dict)
        and problem.keys() >= {"type", "title", "status", "detail", "instance", "error"}
        and problem["status"] == status
    )


def _read(body: bytes) -> Any:
    """The value of JSON; None where it is none, as with NaN or infinity in it."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return json.loads(body, parse_constant=refuse)
    except ValueError:
        return None


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.decode("latin-1").lower(): value.strip().decode("latin-1") for name, _, value in pairs}
