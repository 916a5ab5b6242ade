"""Servers and programs that a benchmark starts and stops."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx
import psutil

__all__ = ["Unserved", "cpu_seconds", "free_port", "memory", "run_python", "running", "serving", "wait_ready"]

DEADLINE_SECONDS = 120
STOP_SECONDS = 15


class Unserved(Exception):
    """A server ended by itself, never answered, or not as it should."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(arguments: Sequence[str], data_dir: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program with `more` in its environment, ended by SIGTERM when the block ends."""
    environment = os.environ | {"EPOCHD_DATA_DIR": str(data_dir), "EPOCHD_LOG_LEVEL": "warning"} | more
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


@contextlib.contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], request: httpx.Request, folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Response]]:
    """Another server and its first answer to a request. It and all its processes are ended with the block.

    Args:
        command: what to run.
        environment: what to add to this process's own.
        request: what is asked until it is answered with 200.
        folder: where the server runs, for what it may leave behind.

    Raises:
        Unserved: it never answered; the text ends with what it printed.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, _first_answer(process, request, log)
        finally:
            _end(process)


def memory(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Resident megabytes of a process and its descendants, and how many they are."""
    found = []
    for one in _tree(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(one.memory_info().rss / 1e6)
    return sum(found), len(found)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a process and its descendants have computed so far."""
    total = 0.0
    for one in _tree(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


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


def _tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    return []


def _first_answer(process: subprocess.Popen[bytes], request: httpx.Request, log: IO[bytes]) -> httpx.Response:
    deadline = time.monotonic() + DEADLINE_SECONDS
    last = "nothing was answered"
    with httpx.Client(trust_env=False, timeout=30) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                response = client.send(request)
            except httpx.HTTPError as error:
                last = repr(error)
            else:
                if response.is_success:
                    return response
                last = f"{response.status_code} {response.text[:300]}"
            time.sleep(0.1)
    log.seek(0)
    printed = log.read()[-1500:].decode(errors="replace")
    raise Unserved(f"{last}; it printed: {printed}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants, by force those that don't heed SIGTERM."""
    descendants = _tree(process)[1:]
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for one in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
    _, alive = psutil.wait_procs(descendants, STOP_SECONDS)
    for one in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    if process.poll() is None:
        process.kill()
        process.wait(STOP_SECONDS)
