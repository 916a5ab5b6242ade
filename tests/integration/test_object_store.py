"""An object store that refuses us, dies, freezes and comes back. The server is real, and so are its ends."""

import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import BlobMissing, InvalidInput, Unavailable
from service.store import objects
from service.store.blobs import Blobs
from tests.http_servers import answering
from tests.integration.test_blobs import LARGE
from tests.object_server import BUCKET, SECRET, ObjectServer

pytestmark = pytest.mark.slow

CLOSED = "http://127.0.0.1:1"
PUTTER = """
import random, sys
from service.store.blobs import Blobs
blobs = Blobs(sys.argv[1])
data = random.Random(2).randbytes(int(sys.argv[2]))
print("begins", flush=True)
blobs.put("one", data)
"""


def eventually(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not wanted():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries go on for longer than any machine takes to start a server."""
    monkeypatch.setattr(objects, "RETRY_SECONDS", 120)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_SECONDS", 1)
    monkeypatch.setattr(objects, "SILENT_SECONDS", 1)


def test_a_bucket_that_is_not_there_is_told_when_the_store_is_opened(s3_url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^the blob store s3://nowhere cannot be used: there is no such bucket$"):
        Blobs("s3://nowhere/prefix")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_credentials_that_are_refused_are_told_when_the_store_is_opened_and_not_shown(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "of-somebody-else")
    with pytest.raises(InvalidInput, match=rf"^the blob store s3://{BUCKET} cannot be used: it answered 403 ") as told:
        Blobs(s3_url)
    assert SECRET not in str(told.value)
    assert "of-somebody-else" not in str(told.value)
    assert told.value.__cause__ is None


def test_no_credentials_at_all_are_told_when_the_store_is_opened(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", CLOSED)
    with pytest.raises(InvalidInput, match="there are no credentials, for S3 AWS_ACCESS_KEY_ID"):
        Blobs(s3_url)


def test_credentials_that_may_only_read_read_and_say_why_they_do_not_write(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    digest = Blobs(s3_url).put("one", b"weights")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    blobs = Blobs(s3_url)
    assert blobs.get("one", digest) == b"weights"
    with pytest.raises(Unavailable, match="cannot be written: it answered 403 AccessDenied"):
        blobs.put("one", b"more")
    with pytest.raises(Unavailable, match="cannot be written"):
        blobs.delete("one", digest)
    blobs.discard("one", digest)
    assert f"{digest} of experiment one stays" in caplog.text
    assert blobs.get("one", digest) == b"weights"


def test_files_are_not_called_gone_when_their_whole_bucket_is(
    s3_url: str, object_server: ObjectServer, patient: None
) -> None:
    bucket = f"gone-{uuid.uuid4().hex}"
    object_server.bucket("PUT", bucket)
    blobs = Blobs(f"s3://{bucket}")
    digest = blobs.put("one", b"weights")
    object_server.bucket("DELETE", bucket)
    for act in (lambda: blobs.get("one", digest), lambda: blobs.put("one", b"w"), blobs.list,
                lambda: blobs.delete("one", digest)):  # fmt: skip
        with pytest.raises(Unavailable, match="there is no such bucket") as told:
            act()
        assert not isinstance(told.value, BlobMissing)


def test_a_server_that_is_not_there_is_unavailable(s3_url: str, monkeypatch: pytest.MonkeyPatch, hasty: None) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", CLOSED)
    with pytest.raises(Unavailable, match=rf"^the blob store s3://{BUCKET} cannot be reached: it does not answer$"):
        Blobs(s3_url)


def test_a_host_that_nobody_knows_is_told(s3_url: str, monkeypatch: pytest.MonkeyPatch, hasty: None) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nohost.invalid")
    with pytest.raises(Unavailable, match="there is no such host"):
        Blobs(s3_url)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_a_certificate_of_ones_own_is_refused_unless_it_is_trusted(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hasty: None
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-addext", "basicConstraints=critical,CA:FALSE"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with answering(server):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://localhost:{server.server_port}")
        with pytest.raises(Unavailable, match="its certificate is not trusted"):
            Blobs(s3_url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(Unavailable, match="it answered 501"):  # it knows no GET
            Blobs(s3_url)


def test_a_server_that_freezes_is_not_waited_for_for_ever(
    s3_url: str, object_server: ObjectServer, patient: None, request: pytest.FixtureRequest
) -> None:
    before = Blobs(s3_url)
    digest = before.put("one", b"weights")
    large = before.put("one", LARGE)
    request.getfixturevalue("hasty")
    blobs = Blobs(s3_url)
    with object_server.frozen():
        for act in (lambda: blobs.put("one", b"more"), lambda: blobs.put("one", LARGE), blobs.list,
                    lambda: blobs.get("one", digest), lambda: blobs.delete("one", digest)):  # fmt: skip
            with pytest.raises(Unavailable, match="it does not answer"):
                act()
    assert before.get("one", large) == LARGE


def test_a_server_that_pauses_is_waited_for(s3_url: str, object_server: ObjectServer, patient: None) -> None:
    blobs = Blobs(s3_url)
    with ThreadPoolExecutor() as pool:
        with object_server.frozen():
            digest = pool.submit(blobs.put, "one", b"weights")
            assert not digest.done()
        assert blobs.get("one", digest.result()) == b"weights"


def test_a_put_goes_on_when_the_server_was_killed_in_its_middle_and_comes_back(
    s3_url: str, object_server: ObjectServer, patient: None
) -> None:
    blobs = Blobs(s3_url)
    before = object_server.size()
    with ThreadPoolExecutor() as pool:
        put = pool.submit(blobs.put, "one", LARGE)
        eventually(lambda: object_server.size() > before + 6_000_000)
        with object_server.killed():
            assert not put.done()
        digest = put.result()
    assert blobs.get("one", digest) == LARGE


def test_a_get_is_answered_when_the_server_was_killed_and_comes_back(
    s3_url: str, object_server: ObjectServer, patient: None
) -> None:
    blobs = Blobs(s3_url)
    digest = blobs.put("one", LARGE)
    with ThreadPoolExecutor() as pool:
        with object_server.killed():
            got = pool.submit(blobs.get, "one", digest)
        assert got.result() == LARGE


def test_a_large_file_whose_writer_is_killed_is_whole_or_absent(s3_url: str, object_server: ObjectServer) -> None:
    blobs = Blobs(s3_url)
    for megabytes in (6, 20, 40):
        before = object_server.size()
        writer = subprocess.Popen(
            [sys.executable, "-c", PUTTER, s3_url, "100000000"], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        assert writer.stdout is not None
        with writer.stdout:
            assert writer.stdout.readline() == b"begins\n"
            eventually(lambda: object_server.size() > before + megabytes * 1_000_000)  # noqa: B023 - used in this turn
            writer.kill()
        writer.wait()
        for found in blobs.list():
            data = blobs.get(*found.key)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (100_000_000, found.key[1])
            blobs.delete(*found.key)
