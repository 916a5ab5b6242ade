"""A service of its own for one command: started beside it, and stopped with it."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from service.client import Client
from service.domain.access import Actor, Scope
from service.errors import EpochdError
from service.processes import signals_to
from service.settings import Settings
from service.store import keys, trail
from service.store.session import Database

__all__ = ["ServiceError", "running_service"]

START_SECONDS = 60
POLL_SECONDS = 0.3
READY = re.compile(r"^epochd is ready: (\S+) ", re.MULTILINE)
"""What `epochd serve` says when it answers, with its address."""
NO_KEY = "none"
"""Sent where no key is asked for: a client without one would take that of `EPOCHD_API_KEY`, which is another service's.
"""
STOP_SECONDS = 20
KEY_AGE = timedelta(days=7)
"""Longest that a command of this kind takes. Its key is revoked when it ends, unless it is killed."""


class ServiceError(EpochdError):
    """The service did not start; the text says why."""


@contextlib.contextmanager
def running_service(settings: Settings, *, log_name: str) -> Iterator[tuple[Client, str]]:
    """Run `epochd serve` on this machine, with a worker, and give a client of it and its address. Leaves no process
    behind, also when this one is killed: the service ends when its standard input closes. SIGTERM and SIGHUP are as
    Ctrl-C meanwhile. What the service says goes into a file of this name in the data folder.

    Raises:
        ServiceError: it does not start.
    """
    log = settings.data_dir / log_name
    command = [sys.executable, "-m", "service.cli", "serve", "--host", "127.0.0.1", "--port", str(settings.port)]
    with signals_to(_interrupt, "SIGTERM", "SIGHUP"), _own_key(settings) as key:
        yield from _run([*command, "--until-stdin-closes"], log, settings, key)


@contextlib.contextmanager
def _own_key(settings: Settings) -> Iterator[str | None]:
    """A key for as long as the command takes, where the database has keys and its service will ask for one. Whoever
    gives the command has the database itself.
    """
    database = Database(settings.resolved_database_url)
    with contextlib.closing(database):
        if not keys.asked_for(database):
            yield None
            return
        actor = Actor(name=f"local service {secrets.token_hex(4)}")
        allowed, expires_at = [Scope.WRITE, Scope.PREDICT], datetime.now(UTC) + KEY_AGE
        with database.write() as session:
            key, token = keys.create(session, name=actor.name, scopes=allowed, expires_at=expires_at)
            trail.record(session, actor, "key.create", key.id)
        try:
            yield token
        finally:
            with database.write() as session:
                keys.revoke(session, key.id)
                trail.record(session, actor, "key.revoke", key.id)


def _run(command: list[str], log: Path, settings: Settings, key: str | None) -> Iterator[tuple[Client, str]]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            env=os.environ | {"EPOCHD_DATA_DIR": str(settings.data_dir)},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    try:
        url = _address(process, log)
        with Client(url, api_key=key or NO_KEY) as api:
            yield api, url
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            assert process.stdin is not None  # noqa: S101 - a pipe
            process.stdin.close()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the service answers, by its own word: at a port that it did not get somebody else does.

    Raises:
        ServiceError: it has ended, or takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        ended = process.poll() is not None
        told = log.read_text(errors="replace")
        if not ended and (found := READY.search(told)):
            return found[1]
        if ended or time.monotonic() > deadline:
            lines = told.strip().splitlines()
            last = lines[-1].removeprefix("epochd: ") if lines else f"see {log}"
            raise ServiceError(f"the service did not start: {last}")
        time.sleep(POLL_SECONDS)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """What would end this process at once ends it in order."""
    raise KeyboardInterrupt
