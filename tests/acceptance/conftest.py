"""The installed command, as an operator starts it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psutil
import pytest

from service.settings import Settings
from tests.integration import conftest as integration
from tests.integration.conftest import Api

EPOCHD = str(Path(sys.executable).with_name("epochd"))
DEADLINE_SECONDS = 120
ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "EPOCHD_PORT": "0"}
"""What a command is given besides its own, if nothing else is said."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these start processes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def _one_trainer() -> Iterator[None]:
    """A service trains one at once, unless it is told otherwise: each trainer more spends seconds on importing
    TensorFlow.
    """
    with mock.patch.dict(os.environ, {"EPOCHD_SLOTS": "1"}):
        yield


@pytest.fixture
def api(migrated_dir: Path) -> Iterator[Api]:
    """The API on SQLite, without a worker: a test plays that one."""
    with integration.serving(Settings(data_dir=migrated_dir)) as api:
        yield api


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command, from beginning to end."""
    return subprocess.run(
        [EPOCHD, *arguments],
        cwd=cwd,
        env=os.environ | ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def fails(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """One clear line on standard error, and no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


class Served:
    """A service that answers at a URL, whoever runs it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=30)

    def create(self, **spec: object) -> dict[str, Any]:
        response = self.http.post("/experiments", json=spec)
        assert response.status_code == 202, response.text
        body: dict[str, Any] = response.json()
        return body

    def get(self, experiment_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self.http.get(f"/experiments/{experiment_id}").raise_for_status().json()
        return body

    def metrics(self, experiment_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self.http.get(f"/experiments/{experiment_id}/metrics").raise_for_status().json()
        return body

    def until(self, experiment_id: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not wanted(found := self.get(experiment_id)):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    def succeeded(self, experiment_id: str) -> dict[str, Any]:
        found = self.until(experiment_id, lambda body: body["finished_at"] is not None)
        assert found["status"] == "succeeded", found
        return found


class Service(Served):
    """A running `epochd serve`."""

    def __init__(self, process: subprocess.Popen[str], url: str, banner: str) -> None:
        super().__init__(url)
        self.process = process
        self.banner = banner

    def processes(self) -> list[psutil.Process]:
        """The service's process and every one below it."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal as a terminal does, to the whole group; return the exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait(DEADLINE_SECONDS)


@contextlib.contextmanager
def serving(data_dir: Path, *options: str, **environment: str) -> Iterator[Service]:
    """`epochd serve` on a free port, in a process group of its own. It trains one at once by default."""
    process = subprocess.Popen(
        [EPOCHD, "serve", "--port", "0", "--data-dir", str(data_dir), *options],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"EPOCHD_LOG_LEVEL": "warning", "EPOCHD_SLOTS": "1"} | environment,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        banner = ""
        for line in process.stderr:
            banner += line
            if "epochd is ready" in line:
                break
        assert "http://" in banner, banner
        service = Service(process, next(word for word in banner.split() if word.startswith("http://")), banner)
        with service.http:
            yield service
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(DEADLINE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()
