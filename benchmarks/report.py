"""One measured ratio beside its budget."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Line", "median", "show"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured. `budget` is a bound: `at_most` says on which side."""

    what: str
    value: float
    unit: str
    budget: float
    at_most: bool
    detail: str

    @property
    def kept(self) -> bool:
        """Whether the budget holds."""
        return self.value <= self.budget if self.at_most else self.value >= self.budget


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def show(line: Line) -> None:
    """Print a line at once: a benchmark takes minutes."""
    verdict = "kept" if line.kept else "MISSED"
    bound = f"{'<=' if line.at_most else '>='} {line.budget:g}{line.unit}"
    print(f"{line.what:<58} {line.value:8.3f}{line.unit:<3} {bound:>10}  {verdict:<6}  {line.detail}", flush=True)
