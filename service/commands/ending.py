"""How `epochd` ends: with an exit code, and with a line that says why when it could not do what was asked."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from rich.console import Console
from typer import completion, rich_utils
from typer.core import TyperGroup

from service.commands.console import LEFT, Messages, Output, OutputError, fail, stopped
from service.domain.text import visible
from service.errors import EpochdError

__all__ = ["Commands", "ended"]


class Commands(TyperGroup):
    """Typer's own would end Ctrl-C without a word, and with one code what failed and what nobody reads any more."""

    def make_context(self, *words: Any, **options: Any) -> Any:  # noqa: ANN401 - Typer's
        """Understand the words. Some are answered here: `--help`, `--version`."""
        with _ended_by_others():
            return super().make_context(*words, **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's
        """Understand the words after the command's own name. Typer would not heed which shell is meant."""
        match args:
            case ["--show-completion", shell]:
                completion.show_callback(ctx, self.params[0], shell)
            case ["--install-completion", shell]:
                completion.install_callback(ctx, self.params[0], shell)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's
        """Run the command that the words name."""
        with _ended_by_others():
            return super().invoke(ctx)


@contextlib.contextmanager
def _ended_by_others() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        stopped()
    except BrokenPipeError:
        raise SystemExit(LEFT) from None
    except Exception as error:
        if isinstance(told := getattr(error, "message", None), str):  # Typer's own, which quote the words
            error.message = visible(told)  # type: ignore[attr-defined]
        raise


def _typers_console(*, stderr: bool = False, **options: Any) -> Console:  # noqa: ANN401 - Rich's
    """What Typer shows help and misuse on. It makes its own, and knows no other way to be given one."""
    return Messages(stderr=True, **options) if stderr else Output(**options)


rich_utils.Console = _typers_console  # type: ignore[assignment, attr-defined]


def ended(app: Callable[[], object]) -> None:
    """Run the command to its end. An error is one line on standard error and exit code 1."""
    try:
        try:
            app()
        except SystemExit:  # Typer's way to end, well or not
            _flush(sys.stdout)
            raise
        _flush(sys.stdout)
    except EpochdError as error:
        fail(str(error))
    except KeyboardInterrupt:
        stopped()
    except BrokenPipeError:
        raise SystemExit(LEFT) from None
    except Exception as error:
        if os.environ.get("EPOCHD_DEBUG"):
            raise
        told = " ".join(str(error).split())
        fail(f"unexpected error: {type(error).__name__}: {told}; with EPOCHD_DEBUG=1 it shows where")
    finally:
        # Python would try again at exit, and end with a code of its own.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OutputError, BrokenPipeError):
                _flush(stream)


def _flush(stream: TextIO) -> None:
    """Write what is still held back.

    Raises:
        OutputError: it cannot be written. Nothing more is.
        BrokenPipeError: nobody reads any more.
    """
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error
