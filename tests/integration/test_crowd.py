"""What the benchmark's crowd counts: answers, refusals on purpose, and all that must not be."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.crowd import Ask, Tally, send
from tests.http_servers import answering

pytestmark = pytest.mark.slow

CLIENTS = 5


class Handler(BaseHTTPRequestHandler):
    """Answers as its path says: a status, and the name of a problem. `/gone` is no answer at all."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/gone":
            self.close_connection = True
            return
        _, status, name = self.path.split("/")
        body = json.dumps({"type": f"urn:epochd:problem:{name}"}).encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        if name == "last":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield server.server_port


def asked(port: int, path: str, learnt: list[bytes] | None = None) -> Tally:
    message = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    ask = Ask(kind="read", message=message, learn=(learnt if learnt is not None else []).append)
    return send(lambda: ask, port=port, clients=CLIENTS, seconds=0.2, look=lambda _: None)


@pytest.mark.parametrize("path", ["/200/kept", "/200/last"])
def test_every_answer_is_counted_with_its_seconds_and_given_to_whoever_asked(port: int, path: str) -> None:
    learnt: list[bytes] = []
    tally = asked(port, path, learnt)
    many = tally.statuses[200]
    assert many >= CLIENTS
    assert len(tally.seconds["read"]) == len(learnt) == many
    assert tally.faults.total() == tally.refused.total() == 0


@pytest.mark.parametrize("path", ["/429/queue-full", "/503/overloaded"])
def test_a_refusal_on_purpose_is_no_fault_and_no_answer(port: int, path: str) -> None:
    tally = asked(port, path)
    _, status, name = path.split("/")
    assert tally.refused == {f"read: {status} {name}": tally.statuses[int(status)]}
    assert tally.faults.total() == 0
    assert not tally.seconds["read"]


@pytest.mark.parametrize("path", ["/500/internal", "/503/unavailable", "/401/not-authenticated", "/404/not-found"])
def test_every_other_error_is_a_fault(port: int, path: str) -> None:
    tally = asked(port, path)
    _, status, name = path.split("/")
    assert tally.faults == {f"read: {status} {name}": tally.statuses[int(status)]}
    assert tally.faults.total() >= CLIENTS
    assert tally.refused.total() == 0


def test_a_connection_that_is_closed_without_an_answer_is_a_fault(port: int) -> None:
    tally = asked(port, "/gone")
    assert tally.faults.total() >= CLIENTS
    assert tally.faults.keys() == {"read: the connection was closed"}
    assert not tally.statuses


def test_a_503_that_is_no_problem_is_a_fault() -> None:
    tally = Tally()
    tally.count(Ask(kind="read", message=b""), 503, b"<h1>Bad gateway</h1>", 0.1)
    assert tally.faults == {"read: 503 no problem details": 1}


def test_a_fault_of_the_server_says_why() -> None:
    tally = Tally()
    body = json.dumps({"type": "urn:epochd:problem:unavailable", "detail": "the database is locked"}).encode()
    tally.count(Ask(kind="submit", message=b""), 503, body, 0.1)
    assert tally.faults == {"submit: 503 unavailable (the database is locked)": 1}


def test_a_percentile_is_the_time_within_which_so_many_were_answered() -> None:
    tally = Tally()
    for number in range(100, 0, -1):
        tally.count(Ask(kind="read", message=b""), 200, b"", number / 100)
    assert [tally.percentile("read", percent) for percent in (50, 99, 100)] == [0.51, 1.0, 1.0]
