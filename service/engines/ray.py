"""The Ray engine: jobs are tasks of a Ray cluster, and a driver process of ours watches them.

Ray ends a process that loses its cluster, and may block it. So no process of ours but the driver is part of the
cluster: neither the worker nor the API.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import orjson

from service.engines.base import Slot, TrainerDied
from service.engines.environment import without_secrets
from service.engines.near_end import ConnectedSlot, NearEnd
from service.telemetry import metrics

__all__ = ["Demand", "RayEngine"]

log = logging.getLogger("epochd.engine")

START_SECONDS = 60.0
"""For the driver to join the cluster. It gives up before, and says why."""
END_SECONDS = 5.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_NUM_REDIS_GET_RETRIES": "5"}
"""What the operator has set goes before."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demand:
    """What a job asks of one node."""

    cpus: float = 1.0
    gpus: float = 0.0
    resources: dict[str, float] = dataclasses.field(default_factory=dict)
    """Further resources, by the names that the cluster's nodes were started with."""
    autoscales: bool = False
    """Whether the cluster starts nodes when work waits for them: then work that no node could do waits too."""


class RayEngine:
    """Trains on the cluster of `RAY_ADDRESS`, or on the one that this machine is a node of."""

    def __init__(
        self, *, data_dir: Path, stall_seconds: float, demand: Demand, trainer: str = "service.training.fit"
    ) -> None:
        """Name the module that trains: it has `warm_up(data_dir)` and `train(job, stop)`, and only tasks import it."""
        self._driver = _Driver([trainer, str(data_dir), orjson.dumps(dataclasses.asdict(demand)).decode()])
        self._stall_seconds = stall_seconds

    @staticmethod
    def installed() -> bool:
        """Whether Ray can be imported here. Looks for it without importing it."""
        return importlib.util.find_spec("ray") is not None

    def slot(self) -> Slot:
        """A place for one job. The last one to be closed ends the driver."""
        return _RaySlot(self._driver, self._stall_seconds)


class _RaySlot(ConnectedSlot):
    def __init__(self, driver: "_Driver", stall_seconds: float) -> None:
        super().__init__(lambda: _Line(driver, stall_seconds), START_SECONDS)
        self._driver = driver
        driver.enter(self)

    def close(self) -> None:
        super().close()
        self._driver.leave(self)


class _Driver:
    """The process that is part of the cluster: started when it is needed, shared by all slots, ended with the last."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._slots: set[Slot] = set()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def enter(self, slot: Slot) -> None:
        with self._lock:
            self._slots.add(slot)

    def leave(self, slot: Slot) -> None:
        with self._lock:
            self._slots.discard(slot)
            if not self._slots:
                self._end()

    def connect(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        """Give the driver one end of a connection.

        Raises:
            TrainerDied: it ended at this very moment.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._start()
            assert self._process is not None  # noqa: S101 - just started
            assert self._control is not None  # noqa: S101
            try:
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            except OSError:
                raise TrainerDied("the Ray driver ended", began=False) from None
            return self._process

    def _start(self) -> None:
        metrics.TRAINERS_STARTED.inc()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "service.engines.ray_driver", str(theirs.fileno()), *self._arguments],
                pass_fds=[theirs.fileno()],
                env=QUIET | without_secrets(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # there Ray repeats every death, which we tell in our own words
            )

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


class _Line(NearEnd):
    """A connection to the driver, for one job: with every new one the driver looks at the cluster again."""

    def __init__(self, driver: _Driver, stall_seconds: float) -> None:
        super().__init__(stall_seconds)
        self._ours = socket.socket(fileno=os.dup(self._connection.fileno()))
        self._killed = False
        try:
            with self.theirs as theirs:
                self._process = driver.connect(theirs)
        except TrainerDied:
            self.close()
            raise

    @property
    def warm(self) -> bool:
        return self.jobs == 0 and not self._killed and self._process.poll() is None

    def kill(self) -> None:
        self._killed = True
        with contextlib.suppress(OSError):  # it is closed already
            self._ours.shutdown(socket.SHUT_RDWR)  # the driver ends the task of a connection that is gone

    def stalled(self, seconds: float | None = None) -> TrainerDied:
        if self.jobs == 0:  # not a node's fault: the driver itself does not answer
            self._process.kill()
        return super().stalled(seconds)

    def death(self) -> TrainerDied:
        if self._killed:
            return TrainerDied("the trainer was killed")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        return TrainerDied(f"the Ray driver ended with exit code {self._process.returncode}")

    def close(self) -> None:
        super().close()
        self._ours.close()
