"""What people see of experiments in a terminal."""

import math

import pytest

from service.commands.display import curves
from service.domain.experiment import EpochMetrics


def epochs(*losses: float) -> list[EpochMetrics]:
    return [
        EpochMetrics(
            epoch=number, loss=loss, accuracy=0.5, val_loss=loss, val_accuracy=0.5, seconds=1, gradient_norms=(1, 1)
        )
        for number, loss in enumerate(losses, 1)
    ]


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 0.5), (0.5, 0.5), (1.0, math.nan), (math.nan,), (math.inf, math.nan)])
def test_curves_are_drawn_of_whatever_was_measured(losses: tuple[float, ...]) -> None:
    text = curves(epochs(*losses)).plain
    assert "(loss)" in text
    assert "(accuracy)" in text
    assert ("nan" in text) is False


def test_ticks_name_each_epoch_once() -> None:
    for count in (5, 10, 12, 40, 1000):
        (ticks, *_) = [
            line
            for line in curves(epochs(*[1 / n for n in range(1, count + 1)])).plain.splitlines()
            if line.lstrip().startswith("| 0")
        ]
        named = ticks.split()[1:]
        assert len(named) == len(set(named)) == 7
        assert float(named[0]) == 0
        assert float(named[-1]) == count
