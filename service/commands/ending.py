"""How `epochd` ends: with an exit code, and with a line that says why when it could not do what was asked."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from typer.core import TyperGroup

from service.commands.console import LEFT, OutputError, fail, stopped
from service.errors import EpochdError

__all__ = ["Commands", "ended"]


class Commands(TyperGroup):
    """Typer's own would end Ctrl-C without a word, and with one code what failed and what nobody reads any more."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's
        """Run the command that the words name."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            stopped()
        except BrokenPipeError:
            raise SystemExit(LEFT) from None


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
