"""Servers and programs that a benchmark starts and stops."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

__all__ = ["free_port", "run_python", "running", "wait_ready"]

DEADLINE_SECONDS = 120


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(arguments: Sequence[str], data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program, ended by SIGTERM when the block ends."""
    environment = os.environ | {"EPOCHD_DATA_DIR": str(data_dir), "EPOCHD_LOG_LEVEL": "warning"}
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def wait_ready(url: str, seconds_between: float = 0.01) -> None:
    """Return when the service says that it is ready."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health/ready").is_success:
                return
        time.sleep(seconds_between)
    raise TimeoutError(f"{url} was not ready after {DEADLINE_SECONDS} s")


def run_python(arguments: Sequence[str]) -> str:
    """Run a Python program to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout
