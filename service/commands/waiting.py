"""Waiting for what goes on without the command, and leaving it."""

import contextlib
import signal
from collections.abc import Iterator, Mapping
from types import FrameType

from service.commands.console import INTERRUPTED, SIGNALLED, err
from service.processes import signals_to

__all__ = ["leaving"]

AGAIN_SECONDS = 0.5
"""Until a signal that came to nothing is heard again: Python drops what is raised while it clears up an object, or the
lock of an import.
"""


@contextlib.contextmanager
def leaving(what: str, hints: Mapping[str, str]) -> Iterator[None]:
    """Whoever stops waiting is told what goes on, and what can be done about it. SIGTERM and SIGHUP would end the
    command at once, and leave a terminal without its cursor: they are as Ctrl-C, with codes of their own.
    """
    heard: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if not heard and hasattr(signal, "SIGALRM") and signal.getsignal(signal.SIGALRM) is stop:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        heard.append(number)
        raise KeyboardInterrupt

    try:
        with signals_to(stop, "SIGTERM", "SIGHUP", "SIGALRM"):
            try:
                yield
            finally:
                if heard and hasattr(signal, "setitimer"):
                    signal.setitimer(signal.ITIMER_REAL, 0)
    except (KeyboardInterrupt, OSError) as error:
        if isinstance(error, OSError) and not heard:
            raise  # else it is the terminal that hung up, told to the bar that was on it
        with contextlib.suppress(OSError):
            err.show_cursor()  # the bar does it too, if it had begun
        err.print(f"epochd: {what} goes on")
        for hint, command in hints.items():
            err.print(f"  {hint}: {command}")
        raise SystemExit(SIGNALLED + heard[0] if heard else INTERRUPTED) from None
