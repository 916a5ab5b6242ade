"""The command `epochd`: how it begins. `service.commands` has what it can do, and how it ends.

Nothing heavy is imported here: Ctrl-C would be a traceback until it is.
"""

import contextlib
import os
import signal
import sys
from types import FrameType

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """Run the command. Whatever goes wrong is one line on standard error, and an exit code."""
    _have_streams()
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else somebody wants it to be ignored
    if own:
        signal.signal(signal.SIGINT, _stop)
    from service.commands.application import app
    from service.commands.ending import ended

    if own:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    ended(app)


def _stop(_number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"epochd: stopped\n")
    os._exit(INTERRUPTED)


def _have_streams() -> None:
    """Whoever starts us may have closed the standard streams. The next file that is opened would take their place, and
    be written to. An output that is closed becomes one that refuses: what it should have said is not lost in silence.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as the one in whose place it is
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as the one in whose place it is
    # A terminal or a file of another encoding shall not turn an answer into an error.
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
