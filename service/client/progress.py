"""How a wait looks: a bar in a terminal, plain lines in a notebook, a log or a pipe."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TextIO

from service.domain.experiment import EpochMetrics, Experiment, Spec, Status
from service.domain.sweep import Sweep
from service.domain.text import visible

if TYPE_CHECKING:  # only who wants a bar pays for it
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["Display", "bar", "describe", "shown", "shown_epochs"]

STEPS = 10
"""Lines for a whole wait, about."""
NUMBERS = 41
"""Columns of what `describe` says of an epoch."""
BAR = (8, 40)
"""Columns of a bar, at least and at most."""


class Display(Protocol):
    """Shows how far something is."""

    def show(self, done: int, text: str) -> None:
        """So much is done, and this is to be said of it."""


class _Lines:
    """A line for each tenth."""

    def __init__(self, title: str, total: int, file: TextIO) -> None:
        self._title = title
        self._total = max(total, 1)
        self._file = file
        self._step: int | None = None

    def show(self, done: int, text: str) -> None:
        step = done * STEPS // self._total
        if step != self._step:
            self._step = step
            with contextlib.suppress(OSError):  # a wait goes on when nobody can read how far it is
                print(f"{self._title}: {done}/{self._total}  {text}", file=self._file, flush=True)


class _Nothing:
    def show(self, done: int, text: str) -> None:
        pass


class _Epochs:
    """Shows what `follow` emits."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._done = 0

    def tell(self, told: EpochMetrics | Status) -> None:
        """An epoch has ended, or the status has changed."""
        if isinstance(told, EpochMetrics):
            self._done = told.epoch
            self._display.show(self._done, describe(told))
        elif not told.terminal:
            self._display.show(self._done, str(told))


@contextlib.contextmanager
def shown(title: str, total: int, *, unit: str, wanted: bool) -> Iterator[Display]:
    """What shows a wait on standard error, in a notebook on standard output. Nothing when it is not wanted."""
    if not wanted:
        yield _Nothing()
    elif "ipykernel" in sys.modules:
        yield _Lines(title, total, sys.stdout)
    elif not sys.stderr.isatty():
        yield _Lines(title, total, sys.stderr)
    else:
        with _bar(title, total, unit) as display:
            yield display


@contextlib.contextmanager
def shown_epochs(experiment: Experiment, *, wanted: bool) -> Iterator[_Epochs]:
    """The same for an experiment's epochs."""
    with shown(_title(experiment.spec), experiment.spec.epochs, unit="epochs", wanted=wanted) as display:
        yield _Epochs(display)


@contextlib.contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Display]:
    from rich.console import Console

    with bar(title, total, unit, Console(stderr=True)) as bars:
        (task,) = bars.task_ids

        class Bar:
            def show(self, done: int, text: str) -> None:
                bars.update(task, completed=done, text=text)

        yield Bar()


def bar(title: str, total: int, unit: str, console: "Console") -> "Progress":
    """A bar that fits. Where there is little room the title is cut first, then there is no bar, and then no unit: what
    is measured stays.
    """
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    room = console.width - len(f" {total}/{total} {unit}  ") - NUMBERS
    width = room - BAR[0] - 1 if room > 2 * BAR[0] else room
    named = Text(visible(title) if width > 0 else "")
    named.truncate(max(width, 0), overflow="ellipsis")
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)] if named else []
    if (left := room - named.cell_len - 1) >= BAR[0]:
        columns.append(BarColumn(bar_width=min(left, BAR[1])))
    done = "{task.completed:.0f}/{task.total:.0f}" + (f" {unit}" if room > 0 else "")
    numbers = Column(no_wrap=True, overflow="ellipsis")
    columns.append(TextColumn(f"{done}  {{task.fields[text]}}", markup=False, table_column=numbers))
    bars = Progress(*columns, console=console)
    bars.add_task(named.plain, total=total, text="")
    return bars


def describe(value: EpochMetrics | Sweep) -> str:
    """How an epoch or a sweep stands, in a few words."""
    if isinstance(value, Sweep):
        counts = value.progress
        told = {"running": counts.running, "failed": counts.failed, "cancelled": counts.cancelled}
        return ", ".join(f"{count} {name}" for name, count in told.items() if count) or str(value.status)
    numbers = {"loss": value.loss, "accuracy": value.accuracy, "test": value.val_accuracy}
    return ", ".join(f"{name} {'-' if number is None else f'{number:.4f}'}" for name, number in numbers.items())


def _title(spec: Spec) -> str:
    return visible(spec.name or f"{spec.activation}, depth {spec.depth}")
