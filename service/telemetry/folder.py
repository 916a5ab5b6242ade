"""Where the processes of one service put their metrics together. Imports no metrics: it must come before them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.processes import OwnFolder

__all__ = ["VARIABLE", "folder", "inherited", "shared_folder"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""By which prometheus_client, when it is imported, and our child processes know the folder."""
_locks: list[int] = []
"""What keeps the folder that is our own."""


@contextmanager
def shared_folder() -> Iterator[None]:
    """A folder of our own while the block runs, for this process and those that it starts. It is gone afterwards."""
    before = os.environ.get(VARIABLE)
    made = OwnFolder("epochd-metrics-")
    os.environ[VARIABLE] = str(made.path)
    _locks[:] = made.locks
    try:
        yield
    finally:
        _locks.clear()
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        made.remove()


def folder() -> Path | None:
    """The folder that this process shares with others; None where it is alone."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None


def inherited() -> tuple[dict[str, str], tuple[int, ...]]:
    """What a process that we start has of the folder: the environment, and the descriptors that keep the folder for as
    long as one of us needs it. One that somebody has removed is not named: that process would not even start.
    """
    path = folder()
    if path is None or path.is_dir():
        return dict(os.environ), tuple(_locks)
    return {name: value for name, value in os.environ.items() if name != VARIABLE}, ()
