"""What the reproduction's sweep gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.experiment import EpochMetrics, Experiment, Spec

__all__ = ["ARTICLE_EPOCHS", "Arm", "Results"]

ARTICLE_EPOCHS = Spec.model_fields["epochs"].default

Arm = tuple[str, int]
"""Activation and depth."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the sweep gave."""

    seeds: int
    epochs: int
    wall_seconds: float
    comparison: Mapping[str, Any]
    runs: Mapping[Arm, Sequence[Experiment]]
    measured: Mapping[str, tuple[EpochMetrics, ...]]
    """By experiment."""

    def summary(self, arm: Arm) -> Mapping[str, Any]:
        """The comparison's words on an arm."""
        values = {"activation": arm[0], "depth": arm[1]}
        found: Mapping[str, Any] = next(one for one in self.comparison["arms"] if one["values"] == values)
        return found

    @property
    def command(self) -> str:
        """What made them, typed again."""
        epochs = f" --epochs {self.epochs}" if self.epochs != ARTICLE_EPOCHS else ""
        return f"epochd reproduce --seeds {self.seeds}{epochs}"

    def of_end(self, arm: Arm, name: str) -> list[float]:
        """The test accuracy or loss of every run of an arm."""
        return [getattr(one.result, f"test_{name}") for one in self.runs[arm] if one.result]

    def of_epoch(self, arm: Arm, epoch: int) -> list[EpochMetrics]:
        """What every run of an arm measured after an epoch; -1 for the last."""
        return [self.measured[one.id][epoch] for one in self.runs[arm]]
