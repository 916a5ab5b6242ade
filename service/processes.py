"""What every process of ours does, whatever it is for."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

__all__ = ["OwnFolder", "at_end_of_input", "keep_private", "signals_to"]

PRIVATE = 0o077
"""As a umask."""
LOCKED = "locked-"
"""In the names of folders that their process has locked: earlier versions locked none, and may run beside this one."""
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


@contextlib.contextmanager
def signals_to(act: Callable[[int, FrameType | None], None], *names: str) -> Iterator[None]:
    """Act meanwhile at signals of these names, as far as this system has them. One that is ignored or handled already
    stays so. Only the main thread can: in any other nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        names = ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, act)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


class OwnFolder:
    """A temporary folder that lives as long as this process at most: what one has left that was killed is removed by
    the next that makes one with the same prefix.
    """

    def __init__(self, prefix: str) -> None:
        """Make it, for this user alone."""
        _remove_abandoned(prefix + LOCKED)
        self._folder = tempfile.TemporaryDirectory(prefix=prefix + LOCKED, ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        self._lock = _locked(self.path)

    @property
    def locks(self) -> tuple[int, ...]:
        """The descriptor that keeps it locked, for `pass_fds`: a process that has it keeps the folder, too."""
        return () if self._lock is None else (self._lock,)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
        self._folder.cleanup()


def _locked(folder: Path) -> int | None:
    """Lock a folder until whoever has the descriptor closes it, or ends. None where another has locked it. What clears
    temporary folders of old files, such as systemd-tmpfiles, leaves those alone that are locked so.

    Raises:
        OSError: it is no folder, such as a link or a pipe, or cannot be opened.
    """
    try:
        import fcntl
    except ImportError:  # Windows: then nothing is ever known to be abandoned
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(prefix: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # no folder, or somebody else removes it
            if time.time() - path.lstat().st_mtime < YOUNG_SECONDS or (lock := _locked(path)) is None:
                continue
            if os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
