"""Where the processes of one service put their metrics together. Imports no metrics: it must come before them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.processes import OwnFolder

__all__ = ["VARIABLE", "folder", "shared_folder"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""By which prometheus_client, when it is imported, and our child processes know the folder."""


@contextmanager
def shared_folder() -> Iterator[None]:
    """A folder of our own while the block runs, for this process and those that it starts. It is gone afterwards."""
    before = os.environ.get(VARIABLE)
    made = OwnFolder("epochd-metrics-")
    os.environ[VARIABLE] = str(made.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        made.remove()


def folder() -> Path | None:
    """The folder that this process shares with others; None where it is alone."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None
