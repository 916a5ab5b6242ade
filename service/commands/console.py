"""What commands say, where they say it, and how they end."""

import contextlib
import json
import shutil
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from service.domain.text import STEERING, visible
from service.errors import EpochdError

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "LEFT",
    "SIGNALLED",
    "Messages",
    "Output",
    "OutputError",
    "columns",
    "err",
    "fail",
    "misused",
    "print_json",
    "say",
    "stopped",
]

MISUSED = 2
"""Exit code when the command is not written so, as Typer's own."""
FAILED = 3
"""Exit code when the experiment that was waited for gave no model."""
SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a process."""
INTERRUPTED = 130
"""As a shell reports a process that ended by Ctrl-C."""
LEFT = 141
"""As a shell reports a process that ended because nobody read its output any more."""
UNLIMITED = (1000, 100)
"""Columns and lines: a narrow terminal breaks a line, but nothing is cut off. An id that is cut is of no use. In a dumb
terminal Rich heeds the columns only if it is told the lines, too."""
BLANK = " \u2800"
"""A space, and a plot's."""


def columns() -> int:
    """How wide the terminal is."""
    return shutil.get_terminal_size().columns


class OutputError(EpochdError):
    """Standard output cannot be written."""


class _Careful(Console):
    """Shows what others wrote, and does not do it."""

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - Rich's
        """The text as Rich lays it out."""
        return super().render_str(visible(text), **options)


class Output(_Careful):
    """Standard output. Whoever writes is told that it cannot be written, or that the reader has left."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - Rich's
        """Write it.

        Raises:
            OutputError: it cannot be written.
            BrokenPipeError: nobody reads any more.
        """
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error

    def on_broken_pipe(self) -> None:
        """Rich's own would end the command, with the code of an error."""
        raise BrokenPipeError


class Messages(_Careful):
    """Standard error. What nobody can read is no reason to stop."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - Rich's
        """Write it, if it can be written. A line goes out at once: Rich would write it again after a Ctrl-C."""
        with contextlib.suppress(OSError):
            match objects:
                case (str(line),) if not options:
                    self.file.write(f"{visible(line)}\n")
                    self.file.flush()
                case _:
                    super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Rich's own would end the command."""


_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
err = Messages(stderr=True, **_PLAIN)  # has bars, too: of the terminal's width
out = Output(width=UNLIMITED[0], height=UNLIMITED[1], **_PLAIN)


def fail(message: str) -> NoReturn:
    """End with a line on standard error and exit code 1."""
    _end(message, 1)


def misused(message: str) -> NoReturn:
    """The same for a command that is not written so."""
    _end(message, MISUSED)


def stopped(message: str = "stopped") -> NoReturn:
    """End by Ctrl-C, with a line on standard error."""
    _end(message, INTERRUPTED)


def _end(message: str, code: int) -> NoReturn:
    err.print(f"epochd: {message}".replace("\n", r"\n"))
    raise SystemExit(code)


def say(answer: RenderableType, *, lest: str = "") -> None:
    """Put an answer on standard output.

    `lest` is what must not be lost with it.

    Raises:
        OutputError: it cannot be written; the text ends with what must not be lost.
        BrokenPipeError: nobody reads any more, and nothing must not be lost.
    """
    try:
        out.print(_Trimmed(answer))
    except (OutputError, BrokenPipeError) as error:
        if not lest:
            raise
        why = "nobody reads standard output" if isinstance(error, BrokenPipeError) else error
        raise OutputError(f"{why}; {lest}") from error


def print_json(answer: object, *, lest: str = "") -> None:
    """Put the service's own answer on standard output. Raises as `say` does."""
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    say(_Verbatim(STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)), lest=lest)


class _Verbatim:
    """A text that Rich neither wraps nor cuts."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text)
        yield Segment.line()


class _Trimmed:
    """Something without the blanks at the ends of its lines, which a narrow terminal would break."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in Segment.split_lines(console.render(self._whole, options)):
            while line and not line[-1].text.strip(BLANK):
                line.pop()
            if line:
                text, style, _ = line.pop()
                yield from line
                yield Segment(text.rstrip(BLANK), style)
            yield Segment.line()
