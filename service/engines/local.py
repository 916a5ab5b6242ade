"""The local engine: warm trainer processes on this machine."""

import contextlib
import importlib.util
import logging
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from multiprocessing.connection import Connection
from pathlib import Path

from service.domain.events import Event, Job
from service.engines.base import Slot, TrainerDied
from service.engines.messages import Ended, Message, Ready, Stop, receive, send

__all__ = ["LocalEngine"]

log = logging.getLogger("epochd.engine")

START_SECONDS = 300.0
TRAININGS_A_PROCESS = 100
"""TensorFlow keeps about 5 MB of every graph it has compiled, so a trainer is replaced after this many jobs."""


class LocalEngine:
    """Spawns trainers, never forks: TensorFlow hangs in a forked child."""

    def __init__(self, *, data_dir: Path, stall_seconds: float, trainer: str = "service.training.fit") -> None:
        """Name the module that trains: it has `warm_up(data_dir)` and `train(job, stop)`, and only the child
        imports it.
        """
        self._data_dir = data_dir
        self._stall_seconds = stall_seconds
        self._trainer = trainer

    @staticmethod
    def installed() -> bool:
        """Whether TensorFlow can be imported here. Looks for it without importing it."""
        return importlib.util.find_spec("tensorflow") is not None

    def slot(self) -> Slot:
        """A place for one trainer, which `warm_up` starts."""
        return _LocalSlot(self._trainer, self._data_dir, self._stall_seconds)


class _LocalSlot:
    def __init__(self, trainer: str, data_dir: Path, stall_seconds: float) -> None:
        self._command = (trainer, str(data_dir))
        self._stall_seconds = stall_seconds
        self._child: _Child | None = None
        self._job: Job | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        child = self._child
        if child is not None and child.alive and child.trainings < TRAININGS_A_PROCESS:
            return
        self.close()
        child = _Child(*self._command, self._stall_seconds)
        with self._lock:
            self._child = child
        try:
            message = child.receive(START_SECONDS)
        except TrainerDied:
            self.close()
            raise
        assert isinstance(message, Ready)  # noqa: S101 - the protocol

    def train(self, job: Job) -> Generator[Event, None, None]:
        self.warm_up()
        child = self._child
        assert child is not None  # noqa: S101 - just warmed up
        child.trainings += 1
        self._job, over = job, False
        try:
            child.send(job)
            while not isinstance(message := child.receive(self._stall_seconds), Ended):
                yield message  # type: ignore[misc]  # a child that was warm sends events and Ended
            over = True
        finally:
            self._job = None
            if not over:  # it died, or nobody wants its events: what it would still say must not reach the next job
                self.close()

    def stop(self, experiment_id: str | None = None) -> None:
        with self._lock:
            child, job = self._child, self._job
        if child is None or job is None:
            return
        with contextlib.suppress(TrainerDied):
            for member in job.members:
                if experiment_id in {None, member.experiment_id}:
                    child.send_if_free(Stop(experiment_id=member.experiment_id, attempt=member.attempt))

    def kill(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.kill()

    def close(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.close()


def _environment() -> dict[str, str]:
    """What a trainer may know: not how to reach the database or the blobs."""
    secret = ("EPOCHD_", "PG", "AWS_", "AZURE_", "GOOGLE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(secret)}


class _Child:
    """One trainer process and the connection to it."""

    def __init__(self, trainer: str, data_dir: str, stall_seconds: float) -> None:
        # TensorFlow writes the code that it makes here, and a trainer that is killed cannot clear it away.
        self._folder = tempfile.TemporaryDirectory(prefix="epochd-trainer-", ignore_cleanup_errors=True)
        ours, theirs = socket.socketpair()
        # A trainer that is frozen in the middle of a message would hold us for ever: poll() sees the first byte only.
        whole, part = divmod(stall_seconds, 1)
        limit = struct.pack("ll", int(whole), int(part * 1e6) or int(whole == 0))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, limit)
        with theirs:
            arguments = (str(theirs.fileno()), trainer, data_dir, self._folder.name)
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "service.engines.trainer", *arguments],
                pass_fds=[theirs.fileno()],
                env=_environment() | {"TMPDIR": self._folder.name},
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        self._send_lock = threading.Lock()
        self._stall_seconds = stall_seconds
        self.trainings = 0

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Message) -> None:
        try:
            with self._send_lock:
                send(self._connection, message)
        except BlockingIOError:
            raise self._stalled() from None
        except OSError:
            raise self._death() from None

    def send_if_free(self, message: Message) -> None:
        """Send, unless another message is under way: a trainer that does not read must not hold its supervisor."""
        if self._send_lock.acquire(blocking=False):
            self._send_lock.release()
            self.send(message)

    def receive(self, seconds: float) -> Message:
        """Wait for the next message; a silence of `seconds` kills the trainer."""
        try:
            if not self._connection.poll(seconds):
                raise self._stalled()
            return receive(self._connection)
        except BlockingIOError:
            raise self._stalled() from None
        except (EOFError, OSError):
            raise self._death() from None

    def kill(self) -> None:
        if self.alive:
            self._process.kill()

    def close(self) -> None:
        self._process.wait()
        self._connection.close()
        self._folder.cleanup()

    def _stalled(self) -> TrainerDied:
        self.kill()
        return TrainerDied(f"the trainer said nothing for {self._stall_seconds:g} s and was killed")

    def _death(self) -> TrainerDied:
        code = self._process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return TrainerDied(f"the trainer ended {how}")
