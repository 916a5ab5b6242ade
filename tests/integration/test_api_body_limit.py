"""Bodies too large or too slow: the client can read the answer, and the server holds no more than the limit."""

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.settings import Settings
from tests.conftest import succeed
from tests.integration.conftest import Api, problem, serving

pytestmark = pytest.mark.slow

LIMIT = Settings.model_fields["max_body_bytes"].default
HUGE = 5 * LIMIT
JSON = {"content-type": "application/json"}


FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


def chunks(total: int, begin: bytes = b"") -> Iterator[bytes]:
    yield begin
    for _ in range(total // 2**16):
        yield b" " * 2**16


@pytest.fixture(scope="module")
def predicting(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: bytes) -> Iterator[Api]:
    """An API with a model: without one, /predict reads no body."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("predicting"))) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        yield api


@pytest.mark.parametrize("announced", [True, False], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize(
    ("method", "path", "media_type"),
    [
        ("POST", "/experiments", "application/json"),
        ("PUT", "/models/mine", "application/json"),
        ("POST", "/predict", "application/json"),
        ("POST", "/predict", "image/png"),
        ("POST", "/predict", "multipart/form-data; boundary=x"),
    ],
)
def test_a_body_of_50_mb_is_refused_and_the_connection_lives_on(
    predicting: Api, method: str, path: str, media_type: str, announced: bool
) -> None:
    begin = FORM if media_type.startswith("multipart") else b""
    content = begin.ljust(HUGE) if announced else chunks(HUGE, begin)
    response = predicting.request(method, path, content=content, headers={"content-type": media_type})
    assert f"{LIMIT:,}" in problem(response, 413, "too-large")["detail"]
    assert "connection" not in response.headers
    assert predicting.get("/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/nope", "/experiments/x/cancel", "/models"])
@pytest.mark.parametrize("announced", [True, False], ids=["Content-Length", "chunked"])
def test_a_body_that_nobody_wants_does_not_hide_the_answer(empty_api: Api, path: str, announced: bool) -> None:
    response = empty_api.post(path, content=b" " * HUGE if announced else chunks(HUGE), headers=JSON)
    assert response.status_code in {404, 405}
    problem(response, response.status_code)
    assert empty_api.get("/health/live").status_code == 200


def test_a_large_body_is_not_kept(empty_api: Api) -> None:
    empty_api.post("/experiments", content=chunks(HUGE), headers=JSON)
    before = psutil.Process().memory_info().rss
    for _ in range(5):
        problem(empty_api.post("/experiments", content=chunks(HUGE), headers=JSON), 413)
    assert psutil.Process().memory_info().rss - before < 2 * LIMIT


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "options",
    [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["-H", "Expect:"]],
    ids=["Content-Length", "chunked", "waits", "does not wait"],
)
def test_curl_shows_the_answer(empty_api: Api, tmp_path: Path, options: list[str]) -> None:
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(HUGE)
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--data-binary", f"@{body}", "-H", "Content-Type: application/json",
         "-w", "\n%{http_code}", *options, f"{empty_api.base_url}/experiments"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    answer, status = done.stdout.rsplit("\n", 1)
    assert (done.returncode, status, done.stderr) == (0, "413", "")
    assert json.loads(answer)["type"] == "urn:epochd:problem:too-large"


def answer_to(api: Api, request: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """What the server says to these bytes before it closes: status line, headers, body."""
    with socket.create_connection((api.base_url.host, api.base_url.port), timeout=30) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65_536):
            received += part
    head, body = received.split(b"\r\n\r\n", 1)
    status, *lines = head.decode().split("\r\n")
    return status.encode(), dict(line.lower().split(": ", 1) for line in lines), body


def test_a_client_that_waits_to_be_asked_is_answered_at_once(empty_api: Api) -> None:
    status, headers, body = answer_to(
        empty_api,
        b"POST /experiments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
    )
    assert status.startswith(b"HTTP/1.1 413")
    assert headers["connection"] == "close"  # what the client sends next is no second body
    assert json.loads(body)["status"] == 413


def test_a_body_without_end_is_given_up(tmp_path: Path) -> None:
    with (
        serving(Settings(data_dir=tmp_path, max_body_bytes=1024)) as api,
        socket.create_connection((api.base_url.host, api.base_url.port), timeout=30) as connection,
    ):
        connection.sendall(
            b"POST /experiments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n")


@pytest.mark.parametrize("sent", [b"", b'{"image": '], ids=["nothing", "a part"])
@pytest.mark.parametrize("path", [b"/experiments", b"/predict"])
def test_a_body_that_does_not_come_is_not_waited_for(
    tmp_path: Path, tiny_onnx: bytes, path: bytes, sent: bytes
) -> None:
    with serving(Settings(data_dir=tmp_path, body_seconds=0.1)) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        head = b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        status, headers, body = answer_to(api, b"POST " + path + head + sent)
        assert status.startswith(b"HTTP/1.1 408")
        assert headers["connection"] == "close"
        assert json.loads(body)["type"] == "urn:epochd:problem:too-slow"
        assert api.get("/health/live").status_code == 200


@pytest.fixture(scope="module")
def narrow_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that reads 2,048 bytes."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("narrow"), max_body_bytes=2048)) as api:
        yield api


@pytest.mark.parametrize("announced", [True, False], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(2047, 202), (2048, 202), (2049, 413), (20_480, 413), (200_000, 413)])
def test_the_limit_is_exact(narrow_api: Api, size: int, status: int, announced: bool) -> None:
    body = json.dumps({"activation": "relu", "depth": 1}).encode().ljust(size)
    content: Any = body if announced else iter([body[:1000], body[1000:]])
    assert narrow_api.post("/experiments", content=content, headers=JSON).status_code == status
