"""The client and TLS: what is said when it fails, and what a forked process must not say."""

import asyncio
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import AsyncClient, Client, NoAnswer, Retries
from tests.http_servers import Ready, answering

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate"),
]
NEVER = Retries(times=4, first_seconds=1e6, most_seconds=1e6)
"""Who tries again with this does not come back."""


class Secure(http.server.ThreadingHTTPServer):
    """Speaks TLS, and counts who came."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Ready)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.came = 0

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self.came += 1
        return self.context.wrap_socket(connection, server_side=True), address


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, with its key, signed by itself."""
    path = tmp_path / "own.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path, "-out", tmp_path / "one.pem",
         "-days", "2", "-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + (tmp_path / "one.pem").read_bytes())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Secure]:
    with answering(Secure(certificate)) as server:
        yield server


def test_a_child_says_nothing_on_what_it_has_of_its_parent(secure: Secure, certificate: Path) -> None:
    """Over TLS, a connection that is closed would be closed for the parent, too. A program, since a child that ends as
    programs do collects all that it has.
    """
    program = textwrap.dedent(f"""
        import gc, os, sys
        from service.client import Client, Retries
        api = Client("https://127.0.0.1:{secure.server_port}", retries=Retries(times=0))
        assert api.ready()
        if os.fork() == 0:
            assert api.ready()
            api.close()
            del api
            gc.collect()
            sys.exit()
        os.wait()
        assert api.ready()
        api.close()
        """)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "SSL_CERT_FILE": str(certificate)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert secure.came == 2  # the parent's went on


@pytest.fixture(params=["sync", "async"])
def refusal(request: pytest.FixtureRequest) -> Any:
    """What a client of each kind raises when it asks at an address."""

    def refusal(url: str) -> NoAnswer:
        async def ask() -> None:
            async with AsyncClient(url, retries=NEVER) as client:
                await client.workers()

        def wait() -> None:
            with Client(url, retries=NEVER) as client:
                client.workers()

        with pytest.raises(NoAnswer) as raised:
            wait() if request.param == "sync" else asyncio.run(ask())
        return raised.value

    return refusal


def test_a_certificate_that_nobody_vouches_for_is_told_at_once(secure: Secure, refusal: Any) -> None:
    told = str(refusal(f"https://127.0.0.1:{secure.server_port}"))
    assert told.startswith(
        f"no answer from https://127.0.0.1:{secure.server_port}: the certificate is not trusted: self"
    )
    assert secure.came == 1


def test_a_certificate_of_another_name_is_told_at_once(
    secure: Secure, refusal: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert "Hostname mismatch" in str(refusal(f"https://localhost:{secure.server_port}"))


def test_what_speaks_no_tls_is_told_as_that_at_once(refusal: Any) -> None:
    with answering(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)) as plain:
        told = refusal(f"https://127.0.0.1:{plain.server_port}")
    assert "that is no TLS: does the address begin with http://" in str(told)
    assert not told.arrived
