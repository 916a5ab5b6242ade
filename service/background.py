"""A service of its own for one command: started beside it, and stopped with it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from service.client import Client
from service.errors import EpochdError
from service.settings import Settings

__all__ = ["ServiceError", "running_service"]

START_SECONDS = 60
POLL_SECONDS = 0.3
STOP_SECONDS = 20


class ServiceError(EpochdError):
    """The service did not start; the text says why."""


@contextlib.contextmanager
def running_service(settings: Settings, *, log_name: str) -> Iterator[tuple[Client, str]]:
    """Run `epochd serve` on this machine, with a worker, and give a client of it and its address. Leaves no process
    behind. What it says goes into a file of this name in the data folder.

    Raises:
        ServiceError: it does not start.
    """
    port = settings.port or _free_port()
    url = f"http://127.0.0.1:{port}"
    log = settings.data_dir / log_name
    command = [sys.executable, "-m", "service.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            env=os.environ | {"EPOCHD_DATA_DIR": str(settings.data_dir)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        with Client(url) as api:
            deadline = time.monotonic() + START_SECONDS
            while not api.ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = log.read_text(errors="replace").strip().splitlines()
                    last = lines[-1].removeprefix("epochd: ") if lines else f"see {log}"
                    raise ServiceError(f"the service did not start: {last}")
                time.sleep(POLL_SECONDS)
            yield api, url
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
