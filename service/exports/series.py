"""Numbers by name, for tools that draw a line for every name."""

from math import nan

from service.domain.experiment import EpochMetrics, HiddenLayer
from service.exports.tables import MEASURES

__all__ = ["of_epoch"]


def of_epoch(epoch: EpochMetrics, *, separator: str) -> dict[str, float]:
    """Every number of an epoch: `loss`, `gradient_norm_1`, `hidden_1_dead` and so on.

    NaN where a loss or a gradient was not finite: the API cannot say which of NaN and infinity it was. What does not
    apply to an activation is left out.
    """
    found = {measure: getattr(epoch, measure) for measure in MEASURES}
    found |= {f"gradient_norm{separator}{layer}": norm for layer, norm in enumerate(epoch.gradient_norms, 1)}
    numbers = {name: nan if value is None else float(value) for name, value in found.items()}
    if epoch.gradient_ratio is not None:
        numbers["gradient_ratio"] = epoch.gradient_ratio
    for number, layer in enumerate(epoch.hidden, 1):
        for field in HiddenLayer.model_fields:
            value = getattr(layer, field)
            if value is not None:
                numbers[f"hidden{separator}{number}{separator}{field}"] = value
    return numbers
