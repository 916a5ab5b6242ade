"""Axes of figures and what an activation looks like: shared by the figures of one run and of a sweep."""

import math
from collections.abc import Iterable, Sequence

from service.analysis.chart import (
    FILLS,
    LOOK_ORDER,
    LOSS,
    MOST_NATS,
    NORM,
    PALETTE,
    TEST_SHARE,
    Axis,
    Lines,
    Numbers,
    Series,
    finite,
)
from service.domain.experiment import EpochMetrics

__all__ = ["epoch_axis", "layers_of", "left_out", "look_of", "loss_axis", "norm_lines", "positive", "share_axis"]


def look_of(activation: str) -> tuple[str, str]:
    """Colour and filling of an activation, the same in every figure: 7 colours x 4 fillings for 28 activations."""
    rank = LOOK_ORDER.index(activation) if activation in LOOK_ORDER else len(LOOK_ORDER) - 1
    return PALETTE[rank % len(PALETTE)], FILLS[rank // len(PALETTE) % len(FILLS)]


def norm_lines(title: str, series: tuple[Series, ...], depth: int, *, scale: tuple[Series, ...]) -> Lines:
    """A panel of norms by layer. Its axis has room for all of `scale`: panels to compare have the same."""
    values = [value for one in scale for value in (*one.y, *one.low, *one.high) if value is not None]
    lowest = math.floor(math.log10(min(values, default=0.1)))
    highest = math.ceil(math.log10(max(values, default=1.0)) + 1e-9)
    places = range(1, depth + 2)
    step = math.ceil(len(places) / 12)
    ticks = tuple((float(place), str(place)) for place in places[::step])
    return Lines(
        title=title,
        x=Axis(
            title="layer (1 is next to the pixels,\nthe last is the output)", low=0.7, high=depth + 1.3, ticks=ticks
        ),
        y=Axis(
            title=NORM,
            log=True,
            low=10.0**lowest,
            high=10.0**highest,
            ticks=_powers(lowest, highest),
        ),
        series=series,
        height=260,
    )


def loss_axis(series: Sequence[Series]) -> Axis:
    """By powers of ten where a training was lost: on a plain axis every other line would be zero."""
    values = [value for one in series for value in (*one.y, *one.low, *one.high) if value is not None]
    if max(values, default=0.0) < MOST_NATS:
        return Axis(title=LOSS)
    lowest = math.floor(math.log10(min((value for value in values if value > 0), default=1.0)))
    highest = math.ceil(math.log10(max(values)))
    return Axis(title=LOSS, log=True, low=10.0**lowest, high=10.0**highest, ticks=_powers(lowest, highest))


def share_axis(series: Sequence[Series]) -> Axis:
    """An accuracy's: an interval of few seeds may reach beyond 0 and 1, where none can be."""
    ends = [value for one in series for value in (*one.y, *one.low, *one.high) if value is not None]
    if min(ends) >= 0.0 and max(ends) <= 1.0:
        return Axis(title=TEST_SHARE)
    inside = [min(1.0, max(0.0, value)) for value in ends]
    margin = 0.05 * (max(inside) - min(inside))
    return Axis(title=TEST_SHARE, low=max(0.0, min(inside) - margin), high=min(1.0, max(inside) + margin))


def _powers(low: int, high: int) -> tuple[tuple[float, str], ...]:
    """Ticks at powers of ten, at most 9 of them."""
    step = max(1, math.ceil((high - low) / 8))
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return tuple((10.0**power, "10" + str(power).translate(raised)) for power in range(low, high + 1, step))


def epoch_axis(x: Sequence[float]) -> Axis:
    """Whole epochs, about ten of them named."""
    low, high = int(min(x)), int(max(x))
    steps = (digit * 10**power for power in range(4) for digit in (1, 2, 5))
    step = next((step for step in steps if (high - low) / step <= 10), high - low)
    ticks = list(range(step * math.ceil(low / step), high + 1, step))
    if ticks[0] - low >= step / 2:
        ticks.insert(0, low)
    return Axis(title="epoch", ticks=tuple((float(tick), str(tick)) for tick in ticks))


def layers_of(one: EpochMetrics) -> tuple[float, ...]:
    """1 for the layer next to the pixels."""
    return tuple(float(layer) for layer in range(1, len(one.gradient_norms) + 1))


def left_out(count: int) -> str:
    """The end of a note: how many values are not drawn."""
    return f" {count} {'is' if count == 1 else 'are'} not drawn: zero or not a number." if count else ""


def positive(values: Iterable[float | None]) -> Numbers:
    """A log axis has no place for 0."""
    return tuple(value if value is not None and value > 0 else None for value in finite(values))
