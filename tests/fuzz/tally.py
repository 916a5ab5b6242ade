"""What a run has sent, and what came back that should not."""

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Tally"]


@dataclass
class Tally:
    """Counts, and each kind of wrong answer with the first request that got it."""

    cases: Counter[str] = field(default_factory=Counter)
    """By kind."""
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    """By what is wrong."""
    first: dict[str, str] = field(default_factory=dict)
    """The first request of each failure."""

    def fail(self, what: str, request: str) -> None:
        """Count an answer that should not be."""
        self.failures[what] += 1
        self.first.setdefault(what, request)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.cases.items()))
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        head = f"{self.cases.total()} cases ({kinds}): {statuses or 'no answer'}; {self.failures.total()} failures"
        told = [f"  {count} x {what}\n    {self.first[what]}" for what, count in self.failures.most_common()]
        return "\n".join([head, *told])
