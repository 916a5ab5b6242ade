"""What every process of ours does, whatever it is for."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable

__all__ = ["at_end_of_input", "keep_private"]

PRIVATE = 0o077
"""As a umask."""


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
