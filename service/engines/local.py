"""The local engine: warm trainer processes on this machine."""

import contextlib
import functools
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from service import datasets
from service.domain.events import Event, Failed, Job
from service.domain.experiment import DATASETS
from service.engines.base import Slot, TrainerDied
from service.engines.environment import without_secrets
from service.engines.limits import Limits
from service.engines.near_end import ConnectedSlot, NearEnd
from service.errors import DatasetUnavailable
from service.processes import OwnFolder
from service.telemetry import metrics

__all__ = ["LocalEngine"]

NO_LIMITS = Limits()

START_SECONDS = 300.0
JOBS_A_PROCESS = 100
"""TensorFlow keeps about 5 MB of every graph it has compiled, so a trainer is replaced after this many jobs."""


class LocalEngine:
    """Spawns trainers, never forks: TensorFlow hangs in a forked child."""

    def __init__(
        self,
        *,
        data_dir: Path,
        stall_seconds: float,
        trainer: str = "service.training.fit",
        limits: Limits = NO_LIMITS,
        provide: Callable[[str], object] | None = None,
    ) -> None:
        """Name the module that trains: it has `warm_up(data_dir)` and `train(job, stop)`, and only the child
        imports it. `limits` are for each trainer. `provide` puts a dataset into `data_dir`, verified, or raises
        DatasetUnavailable: trainers themselves have no need of the network.
        """
        self._datasets = _Datasets(data_dir, provide)
        self._start = functools.partial(_Child, trainer, str(data_dir), stall_seconds, limits)

    @staticmethod
    def installed() -> bool:
        """Whether TensorFlow can be imported here. Looks for it without importing it."""
        return importlib.util.find_spec("tensorflow") is not None

    def slot(self) -> Slot:
        """A place for one trainer, which `warm_up` starts."""
        return _LocalSlot(self._start, START_SECONDS, self._datasets)


class _Datasets:
    """Which datasets this process has provided, and what their files were like then."""

    def __init__(self, folder: Path, provide: Callable[[str], object] | None) -> None:
        self._folder = folder
        self._provide = provide
        self._stamps: dict[str, object] = {}
        self._lock = threading.Lock()

    def require(self, name: str) -> None:
        """Provide a dataset unless that was done and its file is still the same.

        Raises:
            DatasetUnavailable: it cannot be had.
        """
        with self._lock:
            if self._provide is None:
                return
            stamp = datasets.stamp(name, self._folder)
            if stamp is None or stamp != self._stamps.get(name):
                self._provide(name)
                self._stamps[name] = datasets.stamp(name, self._folder)


class _LocalSlot(ConnectedSlot):
    """A slot whose trainers find their datasets in place."""

    def __init__(self, connect: Callable[[], NearEnd], start_seconds: float, kept: _Datasets) -> None:
        super().__init__(connect, start_seconds)
        self._datasets = kept

    def warm_up(self) -> None:
        """See `Slot`."""
        # The trainer warms up with the first, and says what is missing.
        with contextlib.suppress(DatasetUnavailable):
            self._datasets.require(DATASETS[0])
        super().warm_up()

    def train(self, job: Job) -> Generator[Event, None, None]:
        """See `Slot`."""
        try:
            self._datasets.require(job.members[0].spec.dataset)
        except DatasetUnavailable as error:
            for member in job.members:
                yield Failed(experiment_id=member.experiment_id, code=error.code, message=str(error))
            return
        yield from super().train(job)


class _Child(NearEnd):
    """One trainer process and the connection to it."""

    def __init__(self, trainer: str, data_dir: str, stall_seconds: float, limits: Limits) -> None:
        super().__init__(stall_seconds)
        # TensorFlow writes the code that it makes here, and a trainer that is killed cannot clear it away.
        metrics.TRAINERS_STARTED.inc()
        self._folder = OwnFolder("epochd-trainer-")
        with self.theirs as theirs:
            arguments = (str(theirs.fileno()), trainer, data_dir, str(self._folder.path), limits.to_argument())
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", "service.engines.trainer", *arguments],
                    pass_fds=[theirs.fileno(), *self._folder.locks],
                    env=without_secrets() | {"TMPDIR": str(self._folder.path)},
                    stdin=subprocess.DEVNULL,
                )
            except OSError:  # there is no room for another process
                self._folder.remove()
                raise

    @property
    def warm(self) -> bool:
        return self._process.poll() is None and self.jobs < JOBS_A_PROCESS

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def death(self) -> TrainerDied:
        code = self._process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return TrainerDied(f"the trainer ended {how}")

    def close(self) -> None:
        self._process.wait()
        super().close()
        self._folder.remove()
