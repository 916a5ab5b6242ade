"""What training costs, in parameter-steps: trainable parameters times optimizer steps (`Spec.training_cost`)."""

import math
from itertools import product
from typing import Any

from service.domain.experiment import Spec
from service.domain.sweep import SweepSpec
from service.errors import TrainingTooCostly

__all__ = ["require_affordable", "require_affordable_sweep", "sweep_cost"]

COSTING = ("depth", "units", "epochs", "batch_size")
"""Fields that the cost depends on."""


def require_affordable(spec: Spec, *, most: int) -> None:
    """Refuse an experiment that would cost more than `most` parameter-steps. 0 is no limit.

    Raises:
        TrainingTooCostly: it would.
    """
    if most and spec.training_cost > most:
        raise TrainingTooCostly.of("the experiment", spec.training_cost, most)


def require_affordable_sweep(spec: SweepSpec, *, most: int, most_each: int) -> None:
    """Refuse a sweep that would cost more than `most` parameter-steps, or one of whose experiments would cost more than
    `most_each`. 0 is no limit.

    Raises:
        TrainingTooCostly: it would.
    """
    dearest = _dearest(spec).training_cost
    if most_each and dearest > most_each:
        raise TrainingTooCostly.of("one of the sweep's experiments", dearest, most_each)
    if most and (total := sweep_cost(spec)) > most:
        raise TrainingTooCostly.of("the sweep", total, most)


def sweep_cost(spec: SweepSpec) -> int:
    """What all experiments of a sweep cost together. None is made to count them."""
    axes = spec.axes
    costing = {field: axes[field] for field in COSTING if field in axes}
    alike = spec.size // math.prod(map(len, costing.values()))
    return alike * sum(
        _like(spec, dict(zip(costing, values, strict=True))).training_cost for values in product(*costing.values())
    )


def _dearest(spec: SweepSpec) -> Spec:
    """The cost grows with units, depth and epochs, and with smaller batches."""
    axes = spec.axes
    values: dict[str, Any] = {field: max(axes[field]) for field in ("units", "depth", "epochs") if field in axes}
    if "batch_size" in axes:
        values["batch_size"] = min(axes["batch_size"])
    return _like(spec, values)


def _like(spec: SweepSpec, values: dict[str, Any]) -> Spec:
    """A spec that costs what one of the sweep with these values costs. All of them have been validated."""
    return Spec.model_construct(**spec.base | values)
