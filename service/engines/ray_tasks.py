"""What runs on the nodes of a Ray cluster. Only bytes and names pass through Ray, never an object of ours."""

import asyncio
import contextlib
import dataclasses
import functools
import importlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.exceptions import RayError

from service import datasets
from service.domain.events import Job, Stops
from service.engines.far_end import to_every_end
from service.engines.messages import assemble, frames
from service.errors import DatasetUnavailable

__all__ = ["Relay", "Remote", "train"]

Remote = Any
"""What only Ray knows the type of: an actor, a task or its results."""
_unpacked: dict[str, tuple[int, int, int] | None] = {}
"""The stamp of each dataset's file that this process has seen undamaged: to read it all takes a part of a second."""
JOBS_A_PROCESS = 100
"""As for the local engine: TensorFlow keeps memory of every graph."""


# A retry would splice the events of two runs into one stream, without an error.
@ray.remote(num_returns="streaming", max_retries=0, max_calls=JOBS_A_PROCESS)  # type: ignore[untyped-decorator]
def train(module: str, relay: Remote, key: str, dataset: str, packed: list[Remote], *job: bytes) -> Iterator[bytes]:
    """Train a job: yield an empty frame when there is a process, another when it is ready to train, and then the frames
    of its events.

    `packed` holds a reference to the dataset's file: it is fetched only where the node does not have it.
    """
    yield b""
    order = assemble(iter(job).__next__)
    assert isinstance(order, Job)  # noqa: S101 - the driver sends nothing else
    folder = _folder()
    now = datasets.stamp(dataset, folder)
    if now is None or now != _unpacked.get(dataset):
        datasets.unpack(dataset, folder, lambda: ray.get(packed[0]))
        _unpacked[dataset] = datasets.stamp(dataset, folder)
    stops = Stops()
    threading.Thread(target=_heed, args=(relay, key, stops), daemon=True).start()
    trainer = _trainer(module, str(folder))
    yield b""
    for event in to_every_end(trainer.train, dataclasses.replace(order, data_dir=str(folder)), stops):
        for frame in frames(event):  # noqa: UP028 - Ray sends values into generators, and a list takes none
            yield frame


@functools.cache
def _trainer(module: str, folder: str) -> ModuleType:
    trainer = importlib.import_module(module)
    with contextlib.suppress(DatasetUnavailable):  # a job that needs it says so
        trainer.warm_up(folder)
    return trainer


def _folder() -> Path:
    """Where this node keeps datasets: of this user alone."""
    folder = Path(tempfile.gettempdir()) / f"epochd-datasets-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is somebody else's")
    return folder


def _heed(relay: Remote, key: str, stops: Stops) -> None:
    """Pass on what the relay tells, until the job is over."""
    known = 0
    with contextlib.suppress(RayError):
        while (told := ray.get(relay.after.remote(key, known))) is not None:
            known += len(told)
            for experiment_id in told:
                stops.stop(experiment_id)


@ray.remote(num_cpus=0, max_restarts=0)
class Relay:
    """Carries stops from the driver to its tasks, which ask for them."""

    def __init__(self) -> None:
        self._stopped: dict[str, list[str]] = {}
        self._changed = asyncio.Condition()

    async def begin(self, key: str) -> None:
        """There is a job with this key."""
        self._stopped[key] = []

    async def stop(self, key: str, experiment_id: str) -> None:
        """This member of the job with this key shall stop."""
        async with self._changed:
            if key in self._stopped:
                self._stopped[key].append(experiment_id)
                self._changed.notify_all()

    async def end(self, key: str) -> None:
        """The job is over."""
        async with self._changed:
            self._stopped.pop(key, None)
            self._changed.notify_all()

    async def after(self, key: str, known: int) -> list[str] | None:
        """Who shall stop, but for the first `known`; waits until there is somebody. None when the job is over."""
        async with self._changed:
            await self._changed.wait_for(lambda: key not in self._stopped or len(self._stopped[key]) > known)
            return self._stopped[key][known:] if key in self._stopped else None
