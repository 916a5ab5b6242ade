"""What every process of ours does, whatever it is for."""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["OwnFolder", "at_end_of_input", "keep_private"]

PRIVATE = 0o077
"""As a umask."""
LOCK = "lock"
YOUNG_SECONDS = 60.0
"""For whoever makes a folder to lock it, which nobody takes for abandoned before."""


def keep_private() -> None:
    """What this process and those it starts write is for their user alone; and no core of them, which would hold all
    that they know, is left anywhere.
    """
    os.umask(PRIVATE)
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def at_end_of_input(act: Callable[[], None]) -> None:
    """Act when the process at the other end of our standard input is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 1024):
                pass
        act()

    threading.Thread(target=wait, daemon=True).start()


class OwnFolder:
    """A temporary folder that lives as long as this process at most: what one has left that was killed is removed by
    the next that makes one with the same prefix.
    """

    def __init__(self, prefix: str) -> None:
        """Make it, for this user alone."""
        _remove_abandoned(prefix)
        self._folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        _lock(self._lock)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        os.close(self._lock)
        self._folder.cleanup()


def _lock(descriptor: int) -> bool:
    """Lock a file until this process closes it or ends. Returns False where another has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows: then nothing is ever known to be abandoned
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_abandoned(prefix: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # somebody else's, or somebody else removes it
            if time.time() - path.lstat().st_mtime < YOUNG_SECONDS or path.is_symlink():
                continue
            descriptor = os.open(path / LOCK, os.O_RDWR)
            try:
                if _lock(descriptor):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
