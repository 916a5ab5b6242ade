"""Clients that send too much, too slowly, or read nothing: raw sockets against the installed command."""

import contextlib
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.blobs import Blobs
from service.store.session import Database
from tests.acceptance.conftest import Service, serving
from tests.conftest import succeed

HEAD = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
LARGE = 40 * 2**20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that waits as long as by default."""
    with serving(tmp_path_factory.mktemp("patient"), "--no-worker") as service:
        yield service


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that does not wait for long."""
    limits = {f"EPOCHD_{name}_SECONDS": "3" for name in ("HEAD", "READER", "KEEP_ALIVE")}
    with serving(tmp_path_factory.mktemp("impatient"), "--no-worker", **limits) as service:
        yield service


@contextlib.contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    """Everything that comes before the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):  # it closed while we wrote
        while part := connection.recv(65_536):
            received += part
    return received


def sent(service: Service, request: bytes) -> bytes:
    with connected(service) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        return until_closed(connection)


def problem(answer: bytes, status: int, name: str) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    for name_of_header in (b"date", b"cache-control", b"content-security-policy", b"x-content-type-options"):
        assert head.count(b"\r\n" + name_of_header + b": ") == 1, head
    found: dict[str, object] = json.loads(body)
    assert (found["status"], found["type"]) == (status, f"urn:epochd:problem:{name}")
    assert re.search(rb"\r\nx-request-id: (\S+)(\r\n|$)", head)[1].decode() == found["request_id"]  # type: ignore[index]
    return found


def test_a_url_may_be_so_long_and_no_longer(service: Service) -> None:
    for size, status in ((8192, b"404"), (8193, b"414")):
        url = b"/nope".ljust(size, b"x")
        answer = sent(service, b"GET " + url + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status)
    problem(answer, 414, "url-too-long")


def test_a_head_has_so_many_headers_at_most(service: Service) -> None:
    for count, status in ((98, b"200"), (99, b"431")):
        answer = sent(service, HEAD + b"Connection: close\r\n" + b"X-Y: z\r\n" * count + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status)
    assert "more than 100 headers" in str(problem(answer, 431, "head-too-large")["detail"])


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without an end"])
def test_a_head_of_any_size_is_not_read(service: Service, whole: bool) -> None:
    small = b"X-A: " + b"a" * 30_000 + b"\r\n"
    assert sent(service, HEAD + b"Connection: close\r\n" + small + b"\r\n").startswith(b"HTTP/1.1 200")
    problem(sent(service, HEAD + small * 2 + (b"\r\n" if whole else b"")), 431, "head-too-large")


def test_what_follows_a_body_in_chunks_is_no_header_and_has_an_end(service: Service) -> None:
    begin = (
        b"POST /experiments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n"
    )
    assert sent(service, begin + b"X-Late: a\r\n\r\n").startswith(b"HTTP/1.1 422")
    assert b"431" in sent(service, begin + b"X-Late: " + b"a" * 2**20)


def test_what_is_no_http_is_told_as_a_problem(service: Service) -> None:
    problem(sent(service, b"\x16\x03\x01 this is TLS\r\n\r\n"), 400, "invalid-http")


def test_what_is_refused_before_the_framework_sees_it_is_named_counted_and_in_the_log(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-worker", EPOCHD_ACCESS_LOG="true", EPOCHD_LOG_LEVEL="info") as service:
        named = b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nX-Request-ID: mine-1\r\nHost: localhost\r\n\r\n"
        assert problem(sent(service, named), 414, "url-too-long")["request_id"] == "mine-1"
        unnamed = {str(problem(sent(service, b"\0\r\n\r\n"), 400, "invalid-http")["request_id"]) for _ in range(2)}
        assert len(unnamed) == 2
        counted = service.http.get("/metrics").text
        for labels in ('method="GET",route="unmatched",status="414"', 'method="OTHER",route="unmatched",status="400"'):
            assert f"epochd_http_request_duration_seconds_count{{{labels}}}" in counted
        service.stop()
        assert service.process.stderr is not None
        log = service.process.stderr.read()
    assert re.search(r"GET unmatched 414 in [\d.]+ ms \(request mine-1\)", log), log
    for one in unnamed:
        assert f"(request {one})" in log


def test_one_connection_too_many_is_told_as_a_problem_and_counted(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-worker", EPOCHD_MAX_CONNECTIONS="3") as service:
        with contextlib.ExitStack() as held:
            for _ in range(3):
                connection = held.enter_context(connected(service))
                connection.sendall(HEAD + b"\r\n")
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
            answer = sent(service, HEAD + b"X-Request-ID: fourth\r\n\r\n")
        assert problem(answer, 503, "overloaded")["request_id"] == "fourth"
        assert b"\r\nretry-after: 5\r\n" in answer
        while "epochd_http_requests_refused_total" not in (counted := service.http.get("/metrics").text):
            pass
        assert 'epochd_http_requests_refused_total{status="503"} 0.0' not in counted


@pytest.mark.parametrize("begun", [b"", HEAD], ids=["nothing", "half a head"])
def test_a_head_that_does_not_come_is_not_waited_for(impatient: Service, begun: bytes) -> None:
    with connected(impatient) as connection:
        connection.sendall(begun)
        answer = until_closed(connection)
    assert not answer if not begun else problem(answer, 408, "too-slow")


def test_a_head_that_comes_byte_by_byte_has_no_more_time(impatient: Service) -> None:
    with connected(impatient) as connection:
        connection.settimeout(0.1)
        answer = b""
        for byte in HEAD + b"X-A: " + b"a" * 10_000:
            with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                connection.sendall(bytes([byte]))
                if answer := connection.recv(65_536):
                    break
        problem(answer, 408, "too-slow")


def test_a_second_request_has_the_same_time_and_an_idle_connection_is_closed(impatient: Service) -> None:
    for more in (b"", HEAD):
        with connected(impatient) as connection:
            connection.sendall(HEAD + b"\r\n")
            first = b""
            while not first.endswith(b'{"status":"ok"}'):
                part = connection.recv(65_536)
                assert part, first
                first += part
            connection.sendall(more)
            answer = until_closed(connection)
        assert not answer if not more else problem(answer, 408, "too-slow")


def test_a_request_that_came_early_does_not_cut_the_answer_before_it_short(impatient: Service) -> None:
    experiment = impatient.create(activation="relu", depth=1)
    with connected(impatient) as connection:
        connection.sendall(f"GET {experiment['links']['events']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + HEAD)
        received = b""
        while b"event: status" not in received:
            part = connection.recv(65_536)
            assert part, received
            received += part
        slower = sent(impatient, HEAD)  # by when a head that is awaited would have been refused, this one is
        problem(slower, 408, "too-slow")
        impatient.http.post(experiment["links"]["cancel"]).raise_for_status()
        while b"event: done" not in received:
            part = connection.recv(65_536)
            assert part, received
            received += part
        assert b" 408 " not in received


def test_whoever_reads_nothing_is_cut_off_and_others_are_served(tmp_path: Path, tiny_onnx: bytes) -> None:
    with serving(tmp_path, "--no-worker", EPOCHD_READER_SECONDS="3") as unread:
        database = Database(f"sqlite:///{tmp_path / 'epochd.sqlite3'}")
        blobs = Blobs((tmp_path / "blobs").as_uri())
        experiment = succeed(database, blobs, tiny_onnx.ljust(LARGE, b"\0"))
        database.close()
        path = f"/experiments/{experiment.id}/model?format=onnx"
        with connected(unread) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            process = unread.processes()[0]
            while any(one.raddr and one.raddr.port == connection.getsockname()[1] for one in process.net_connections()):
                assert unread.http.get("/health/live").status_code == 200
        whole = unread.http.get(path)
        assert len(whole.content) == LARGE
