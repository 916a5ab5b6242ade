"""Sends cases to a running service from several threads, and looks at every answer and at the memory."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.fuzz.cases import Case, case

__all__ = ["Findings", "fuzz"]

THREADS = 4
LOOKS = 10


@dataclass
class Findings:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    """Numbers of cases with an answer that should not be, and what it was."""
    memory: list[int] = field(default_factory=list)
    """Bytes after each tenth of the cases."""


def fuzz(url: str, cases: int, seed: int, memory: Callable[[], int]) -> Findings:
    """Send that many cases. `memory` tells the server's resident bytes."""
    found = Findings()
    for look in range(LOOKS):
        first, last = cases * look // LOOKS, cases * (look + 1) // LOOKS
        threads = [
            threading.Thread(target=_send, args=(url, range(first + part, last, THREADS), seed, found))
            for part in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found.memory.append(memory())
    return found


def _send(url: str, numbers: range, seed: int, found: Findings) -> None:
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    for number in numbers:
        try:
            status, complaint = _ask(connection, case(seed, number))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            found.wrong.append((number, f"no answer: {error!r}"))
            continue
        found.statuses[status] += 1
        if complaint:
            found.wrong.append((number, f"{status}: {complaint}"))
    connection.close()


def _ask(connection: http.client.HTTPConnection, one: Case) -> tuple[int, str | None]:
    """The status, and what is wrong with the answer."""
    connection.request("POST", one.path, body=one.body, headers=one.headers)
    response = connection.getresponse()
    body = response.read()
    kind = response.getheader("Content-Type", "")
    if response.status == 200:
        return 200, None if kind != "application/json" else _not_json(body)
    if kind != "application/problem+json":
        return response.status, f"{kind}: {body[:200]!r}"
    problem: dict[str, Any] = json.loads(body)
    if response.status >= 500 and not problem["type"].endswith(":overloaded"):
        return response.status, problem["detail"]
    complete = problem["status"] == response.status and problem["detail"] and problem["title"]
    return response.status, None if complete else f"incomplete: {body[:200]!r}"


def _not_json(body: bytes) -> str | None:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        json.loads(body, parse_constant=refuse)
    except ValueError as error:
        return str(error)
    return None
