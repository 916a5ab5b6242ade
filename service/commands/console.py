"""What commands say, where they say it, and how they end."""

import json
from typing import Any, NoReturn

from rich.console import Console

__all__ = ["FAILED", "INTERRUPTED", "done_by_hand", "err", "fail", "out", "print_json"]

FAILED = 3
"""Exit code when the experiment that was waited for gave no model."""
INTERRUPTED = 130
"""As a shell reports a process that ended by Ctrl-C."""
UNLIMITED = 1000
"""Columns: a narrow terminal breaks a line, but nothing is cut off. An id that is cut is of no use."""

err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)  # has bars, too: of the terminal's width
out = Console(highlight=False, markup=False, soft_wrap=True, width=UNLIMITED)


def fail(message: str) -> NoReturn:
    """End with a line on standard error and exit code 1."""
    err.print(f"epochd: {message}")
    raise SystemExit(1)


def print_json(answer: object) -> None:
    """The service's own answer, on standard output."""
    print(json.dumps(answer, indent=2, ensure_ascii=False))  # noqa: T201 - rich would wrap it


def done_by_hand(what: str, hints: dict[str, Any]) -> NoReturn:
    """End by Ctrl-C, and say what goes on without the command."""
    err.print(f"epochd: {what} goes on")
    for hint, command in hints.items():
        err.print(f"  {hint}: {command}")
    raise SystemExit(INTERRUPTED)
