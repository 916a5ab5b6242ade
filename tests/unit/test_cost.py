"""What training costs: known before anything is queued, and of a sweep without making its experiments."""

from typing import Any

import pytest

from service.domain.cost import require_affordable, require_affordable_sweep, sweep_cost
from service.domain.experiment import Spec
from service.domain.sweep import SweepSpec
from service.errors import TrainingTooCostly

BASE = {"activation": "relu", "depth": 1}
COSTLY: list[dict[str, Any]] = [
    {"base": BASE, "seeds": 7},
    {"base": {"activation": "relu"}, "grid": {"depth": [3, 1], "units": [8, 2], "epochs": [1, 5], "seed": [1, 2]}},
    {"base": {"activation": "relu"}, "grid": {"depth": {"start": 1, "stop": 4}, "batch_size": [60_000, 10, 1000]}},
]


@pytest.mark.parametrize("body", COSTLY)
def test_a_sweep_costs_what_its_experiments_cost(body: Any) -> None:
    costs = [one.training_cost for one in SweepSpec.model_validate(body).specs()]
    total, dearest = sum(costs), max(costs)
    found = SweepSpec.model_validate(body)
    assert sweep_cost(found) == total
    require_affordable_sweep(found, most=total, most_each=dearest)
    require_affordable_sweep(found, most=0, most_each=0)
    with pytest.raises(TrainingTooCostly, match=rf"the sweep would cost {total:,} .* at most {total - 1:,} "):
        require_affordable_sweep(found, most=total - 1, most_each=dearest)
    with pytest.raises(TrainingTooCostly, match=f"one of the sweep's experiments would cost {dearest:,} "):
        require_affordable_sweep(found, most=total, most_each=dearest - 1)


def test_an_experiment_may_cost_what_is_allowed_and_not_more() -> None:
    spec = Spec(activation="relu", depth=1)
    for most in (0, spec.training_cost, 10**12):
        require_affordable(spec, most=most)
    with pytest.raises(TrainingTooCostly, match="Fewer epochs"):
        require_affordable(spec, most=spec.training_cost - 1)


def test_the_cost_of_ten_thousand_networks_is_the_sum_of_theirs() -> None:
    found = SweepSpec.model_validate(
        {
            "base": {"activation": "relu", "epochs": 1},
            "grid": {"depth": {"start": 1, "stop": 64}, "units": {"start": 1, "stop": 156}},
        }
    )
    assert sweep_cost(found) == sum(one.training_cost for one in found.specs())
