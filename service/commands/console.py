"""What commands say, where they say it, and how they end."""

import contextlib
import json
import sys
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from service.errors import EpochdError

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "LEFT",
    "Output",
    "OutputError",
    "done_by_hand",
    "err",
    "fail",
    "print_json",
    "say",
    "stopped",
]

FAILED = 3
"""Exit code when the experiment that was waited for gave no model."""
INTERRUPTED = 130
"""As a shell reports a process that ended by Ctrl-C."""
LEFT = 141
"""As a shell reports a process that ended because nobody read its output any more."""
UNLIMITED = 1000
"""Columns: a narrow terminal breaks a line, but nothing is cut off. An id that is cut is of no use."""


class OutputError(EpochdError):
    """Standard output cannot be written."""


class Output(Console):
    """Standard output. A reader who leaves is told to whoever writes."""

    def on_broken_pipe(self) -> None:
        """Rich's own would end the command, with the code of an error."""
        raise BrokenPipeError


class _Messages(Console):
    """Standard error. What nobody can read is no reason to stop."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - Rich's
        with contextlib.suppress(OSError):
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        pass


err = _Messages(stderr=True, highlight=False, markup=False, soft_wrap=True)  # has bars, too: of the terminal's width
out = Output(highlight=False, markup=False, soft_wrap=True, width=UNLIMITED)


def fail(message: str) -> NoReturn:
    """End with a line on standard error and exit code 1."""
    err.print(f"epochd: {message}")
    raise SystemExit(1)


def stopped(message: str = "stopped") -> NoReturn:
    """End by Ctrl-C, with a line on standard error."""
    err.print(f"epochd: {message}")
    raise SystemExit(INTERRUPTED)


def say(answer: RenderableType, *, lest: str = "") -> None:
    """Put an answer on standard output.

    `lest` is what must not be lost with it.

    Raises:
        OutputError: it cannot be written; the text ends with what must not be lost.
        BrokenPipeError: nobody reads any more, and nothing must not be lost.
    """
    try:
        out.print(answer)
        sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not lest:
            raise
        why = f"standard output cannot be written: {error.strerror or 'nobody reads it'}"
        raise OutputError(f"{why}; {lest}" if lest else why) from error


def print_json(answer: object, *, lest: str = "") -> None:
    """Put the service's own answer on standard output. Raises as `say` does."""
    say(_Verbatim(json.dumps(answer, indent=2, ensure_ascii=False)), lest=lest)


class _Verbatim:
    """A text that Rich neither wraps nor cuts."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text)
        yield Segment.line()


def done_by_hand(what: str, hints: dict[str, Any]) -> NoReturn:
    """End by Ctrl-C, and say what goes on without the command."""
    err.print(f"epochd: {what} goes on")
    for hint, command in hints.items():
        err.print(f"  {hint}: {command}")
    raise SystemExit(INTERRUPTED)
