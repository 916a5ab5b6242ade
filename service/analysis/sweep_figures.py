"""What is seen of a sweep's runs: pure values in, a `Figure` out."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from service.analysis.axes import epoch_axis, layers_of, left_out, look_of, loss_axis, norm_lines, positive, share_axis
from service.analysis.chart import (
    DASHES,
    LOOK_ORDER,
    MARKERS,
    MOST_MARKED,
    TEST_SHARE,
    TEXT,
    TRAINING_SHARE,
    Axis,
    DepthPoint,
    Figure,
    Lines,
    Run,
    Series,
    finite,
    rounded,
)
from service.domain.experiment import EpochMetrics

__all__ = ["accuracy_by_depth", "gradient_norms", "learning_curves", "seed_scatter"]

Look = tuple[str, str, str]
"""Colour, dash, marker."""


def learning_curves(runs: Sequence[Run]) -> Figure:
    """Mean over seeds by epoch, and the band from the lowest to the highest seed, for each arm."""
    title = "Learning curves: mean over seeds"
    arms = _arms(run for run in runs if run.epochs)
    if not arms:
        return Figure(title=title, note="No epoch has ended.")
    most = max(20, 600 // len(arms))  # points a line: long trainings of many arms would make megabytes of JSON

    def lines(heading: str, measure: Callable[[EpochMetrics], float | None], *, share: bool) -> Lines:
        series = tuple(_over_epochs(label, group, look, measure, most) for label, group, look in arms)
        x = epoch_axis([x for one in series for x in one.x])
        title = TEST_SHARE if heading.startswith("Test") else TRAINING_SHARE
        return Lines(title=heading, x=x, y=Axis(title=title) if share else loss_axis(series), series=series)

    return Figure(
        title=title,
        note="Bands go from the lowest to the highest seed. Training is measured while the weights change.",
        panels=(
            lines("Test loss", lambda one: one.val_loss, share=False),
            lines("Test accuracy", lambda one: one.val_accuracy, share=True),
            lines("Training loss", lambda one: one.loss, share=False),
            lines("Training accuracy", lambda one: one.accuracy, share=True),
        ),
    )


def gradient_norms(runs: Sequence[Run]) -> Figure:
    """Geometric mean over seeds of each layer's gradient, after the first and after the last epoch, for each arm.

    Norms of one layer lie decades apart between seeds: an arithmetic mean would be the largest seed's.
    """
    title = "Gradient by layer: mean over seeds"
    arms = _arms(run for run in runs if run.epochs)
    if not arms:
        return Figure(title=title, note="No epoch has ended.")
    first = tuple(_over_layers(label, group, look, first=True) for label, group, look in arms)
    last = tuple(_over_layers(label, group, look, first=False) for label, group, look in arms)
    depth = max(run.depth for run in runs)
    panels = (
        norm_lines("After the first epoch", first, depth, scale=first + last),
        norm_lines("After the last epoch", last, depth, scale=first + last),
    )
    hidden = sum(value is None for one in first + last for value in one.y)
    note = "Geometric mean; bands go from the lowest to the highest seed." + left_out(hidden)
    return Figure(title=title, note=note, panels=panels)


def accuracy_by_depth(points: Sequence[DepthPoint]) -> Figure:
    """Mean test accuracy by depth with its 95% interval, and every single run, a line for each activation."""
    title = "Test accuracy by depth"
    empty = sum(not point.accuracies for point in points)
    points = [point for point in points if point.accuracies]
    if not points:
        return Figure(title=title, note="No experiment has succeeded.")
    depths = sorted({point.depth for point in points})
    step = min((below - above for above, below in pairwise(depths)), default=1)
    # Sorted by activation alone: variants stay in the order in which they come.
    names = sorted(dict.fromkeys((p.activation, p.variant) for p in points), key=lambda name: _by_look(name[0]))
    apart = 0.3 * step / len(names)
    series: list[Series] = []
    for rank, (activation, variant) in enumerate(names):
        own = sorted((p for p in points if (p.activation, p.variant) == (activation, variant)), key=lambda p: p.depth)
        # Beside each other, or the intervals of two activations would hide one another.
        x = tuple(point.depth + apart * (rank - (len(names) - 1) / 2) for point in own)
        series += _by_depth(", ".join(filter(None, (activation, variant))), activation, own, x, rank)
    seeds = {len(point.accuracies) for point in points}
    many = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else f"{max(seeds)}"
    return Figure(
        title=title,
        note=f"Mean and its 95% interval over {many} seed{'' if seeds == {1} else 's'}; small dots are single runs."
        + (" No interval where there is one run only." if min(seeds) < 2 else "")
        + _without(empty),
        panels=(
            Lines(
                x=Axis(
                    title="depth (hidden layers)",
                    low=depths[0] - 0.4 * step,
                    high=depths[-1] + 0.4 * step,
                    ticks=tuple((float(depth), str(depth)) for depth in depths),
                ),
                y=share_axis(series),
                series=tuple(series),
                height=320,
            ),
        ),
    )


def seed_scatter(runs: Sequence[Run]) -> Figure:
    """Test accuracy of every run, a row for each arm, its mean as a bar. A seed keeps its place within the rows."""
    title = "Test accuracy of every seed"
    arms = _arms(run for run in runs if run.test_accuracy is not None)
    if not arms:
        return Figure(title=title, note="No experiment has succeeded.")
    empty = len({(run.activation, run.variant, run.depth) for run in runs}) - len(arms)
    seeds = sorted({run.seed for _, group, _ in arms for run in group})
    series: list[Series] = []
    for row, (label, group, (colour, _, marker)) in enumerate(arms):
        values = [(run.seed, run.test_accuracy) for run in group if run.test_accuracy is not None]
        place = {seed: row + 0.6 * ((rank + 0.5) / len(seeds) - 0.5) for rank, seed in enumerate(seeds)}
        mean = sum(value for _, value in values) / len(values)
        dots = Series(
            name=label,
            x=tuple(rounded(value) for _, value in values),
            y=tuple(place[seed] for seed, _ in values),
            colour=colour,
            dash=None,
            marker=marker,
            legend=False,
            hover=f"{label}, seed %{{text}}: %{{x:.4f}}<extra></extra>",
            texts=tuple(str(seed) for seed, _ in values),
        )
        series += [
            dots,
            replace(
                dots,
                x=(rounded(mean),),
                y=(float(row),),
                colour=TEXT,
                marker="line-ns",
                size=26,
                hover=f"{label}, mean of {len(values)}: %{{x:.4f}}<extra></extra>",
                texts=(),
            ),
        ]
    return Figure(
        title=title,
        note="A dot is one run, the upright bar the arm's mean." + _without(empty),
        panels=(
            Lines(
                x=Axis(title=TEST_SHARE.replace("\n", " ")),
                y=Axis(
                    title="arm of the sweep",
                    low=len(arms) - 0.5,  # the first on top
                    high=-0.5,
                    ticks=tuple((float(row), label.replace(", ", "\n", 1)) for row, (label, _, _) in enumerate(arms)),
                ),
                series=tuple(series),
                height=max(120, 46 * len(arms)),
            ),
        ),
    )


def _by_look(activation: str) -> tuple[int, str]:
    return LOOK_ORDER.index(activation) if activation in LOOK_ORDER else len(LOOK_ORDER), activation


def _arms(runs: Iterable[Run]) -> list[tuple[str, list[Run], Look]]:
    """Runs by arm in the order of legends: by activation, variant as they come, and depth. Colour tells the activation;
    dash and marker the depth (and variant).
    """
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.activation, run.variant, run.depth), []).append(run)
    order = {variant: rank for rank, variant in enumerate(dict.fromkeys(variant for _, variant, _ in groups))}
    kinds = sorted({(depth, variant) for _, variant, depth in groups}, key=lambda kind: (kind[0], order[kind[1]]))
    arms = []
    for activation, variant, depth in sorted(groups, key=lambda key: (*_by_look(key[0]), order[key[1]], key[2])):
        colour, fill = look_of(activation)
        rank = kinds.index((depth, variant))
        label = ", ".join(filter(None, (activation, f"depth {depth}", variant)))
        look = colour, DASHES[rank % len(DASHES)], MARKERS[rank % len(MARKERS)] + fill
        arms.append((label, groups[activation, variant, depth], look))
    return arms


def _over_epochs(
    label: str, group: list[Run], look: Look, measure: Callable[[EpochMetrics], float | None], most: int
) -> Series:
    """An arm's mean by epoch over the seeds that got there. A gap where it is no number for one of them: the mean of
    the others would look better than the arm is.
    """
    by_epoch: dict[int, list[float | None]] = {}
    for run in group:
        for one in run.epochs:
            by_epoch.setdefault(one.epoch, []).append(measure(one))
    epochs = sorted(by_epoch)
    chosen = sorted({epochs[round(place)] for place in np.linspace(0, len(epochs) - 1, most)})
    values = [[value for value in by_epoch[epoch] if value is not None] for epoch in chosen]
    whole = [len(some) == len(by_epoch[epoch]) for some, epoch in zip(values, chosen, strict=True)]
    colour, dash, marker = look
    return Series(
        name=label,
        x=tuple(float(epoch) for epoch in chosen),
        y=finite(sum(some) / len(some) if full else None for some, full in zip(values, whole, strict=True)),
        low=finite(min(some) if full else None for some, full in zip(values, whole, strict=True)),
        high=finite(max(some) if full else None for some, full in zip(values, whole, strict=True)),
        colour=colour,
        dash=dash,
        marker=marker if len(chosen) <= MOST_MARKED else None,
        hover=f"{label}, epoch %{{x}}: %{{y:.4f}}, %{{text}}<extra></extra>",
        texts=tuple(f"mean of {len(by_epoch[epoch])}" for epoch in chosen),
    )


def _over_layers(label: str, group: list[Run], look: Look, *, first: bool) -> Series:
    """An arm's geometric mean by layer after its first or its last epoch, over the seeds that got there."""
    at = min(run.epochs[0].epoch for run in group) if first else max(run.epochs[-1].epoch for run in group)
    ends = [one for run in group for one in (run.epochs[0 if first else -1],) if one.epoch == at]
    layers = layers_of(ends[0])
    found = [positive(one.gradient_norms[place] for one in ends) for place in range(len(layers))]
    # A gap where one is zero or no number: the mean of the others would hide that it vanished.
    values = [[value for value in some if value is not None] if None not in some else [] for some in found]
    colour, dash, marker = look
    return Series(
        name=label,
        x=layers,
        y=finite(math.exp(sum(map(math.log, some)) / len(some)) if some else None for some in values),
        low=finite(min(some, default=None) for some in values),
        high=finite(max(some, default=None) for some in values),
        colour=colour,
        dash=dash,
        marker=marker if len(layers) <= MOST_MARKED else None,
        hover=f"{label}, layer %{{x}}: %{{y:.3g}}, %{{text}}, epoch {at}<extra></extra>",
        texts=tuple(f"mean of {len(some)} of {len(ends)} seeds" for some in values),
    )


def _by_depth(label: str, activation: str, own: list[DepthPoint], x: tuple[float, ...], rank: int) -> list[Series]:
    colour, fill = look_of(activation)
    marker = MARKERS[rank % len(MARKERS)] + fill
    means = Series(
        name=label,
        x=x,
        y=finite(point.mean for point in own),
        low=finite(point.low for point in own),
        high=finite(point.high for point in own),
        around="bar",
        colour=colour,
        dash=DASHES[rank % len(DASHES)],
        marker=marker,
        size=9,
        hover=f"{label}, %{{text}}<extra></extra>",
        texts=tuple(_interval_text(point) for point in own),
    )
    single = [(at, point, value) for at, point in zip(x, own, strict=True) for value in point.accuracies]
    dots = replace(
        means,
        x=tuple(at for at, _, _ in single),
        y=finite(value for _, _, value in single),
        low=(),
        high=(),
        dash=None,
        marker="circle" + fill,
        size=5,
        faint=True,
        legend=False,
        hover=f"{label}, %{{text}}: %{{y:.4f}}<extra></extra>",
        texts=tuple(f"depth {point.depth}, one run" for _, point, _ in single),
    )
    return [dots, means]


def _interval_text(point: DepthPoint) -> str:
    if point.mean is None:
        return f"depth {point.depth}: no run has succeeded"
    interval = "" if point.low is None or point.high is None else f", 95% interval {point.low:.4f} to {point.high:.4f}"
    return f"depth {point.depth}: mean {point.mean:.4f} of {len(point.accuracies)}{interval}"


def _without(arms: int) -> str:
    return f" {arms} arm{' has' if arms == 1 else 's have'} no run that succeeded." if arms else ""
