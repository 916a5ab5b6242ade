"""Where the processes of one service put their metrics together. Imports no metrics: it must come before them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["VARIABLE", "folder", "shared_folder"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""By which prometheus_client, when it is imported, and our child processes know the folder."""


@contextmanager
def shared_folder() -> Iterator[None]:
    """A folder of our own while the block runs, for this process and those that it starts. It is gone afterwards."""
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="epochd-metrics-", ignore_cleanup_errors=True) as path:
        os.environ[VARIABLE] = path
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def folder() -> Path | None:
    """The folder that this process shares with others; None where it is alone."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None
