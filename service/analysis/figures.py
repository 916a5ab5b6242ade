"""What is seen of runs: pure values in, a `Figure` out."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from service.analysis.chart import (
    DASHES,
    FILLS,
    GREY,
    LOOK_ORDER,
    LOSS,
    MARKERS,
    MOST_MARKED,
    MOST_MISTAKES,
    MOST_NATS,
    MOST_TILES,
    NORM,
    PALETTE,
    TEST_SHARE,
    TEXT,
    TRAINING_SHARE,
    Axis,
    Cells,
    DepthPoint,
    Figure,
    Lines,
    Numbers,
    Pictures,
    Run,
    Series,
    Tile,
    finite,
    rounded,
)
from service.domain.experiment import EpochMetrics, Spec

__all__ = [
    "DepthPoint",
    "Figure",
    "Run",
    "accuracy_by_depth",
    "confusion_matrix",
    "gallery",
    "gradient_norms",
    "learning_curves",
    "seed_scatter",
    "subject",
    "sweep_gradient_norms",
    "sweep_learning_curves",
]

# --- One run ---------------------------------------------------------------------------------------------------------


def learning_curves(epochs: Sequence[EpochMetrics], spec: Spec) -> Figure:
    """Loss and accuracy by epoch, on the training and on the test images, as the article draws them."""
    title = f"Learning curves: {subject(spec)}"
    if not epochs:
        return Figure(title=title, note="No epoch has ended.")
    x = tuple(float(one.epoch) for one in epochs)
    marked = len(x) <= MOST_MARKED
    _, test_marker = _look(spec.activation)

    def pair(
        training: Callable[[EpochMetrics], float | None], test: Callable[[EpochMetrics], float | None]
    ) -> tuple[Series, Series]:
        one = Series(
            name="training images (while the weights change)",
            x=x,
            y=finite(map(training, epochs)),
            colour=GREY,
            dash="dash",
            marker="square-open" if marked else None,
            hover="epoch %{x}, training: %{y:.4f}<extra></extra>",
        )
        other = replace(
            one,
            name="test images (after the epoch)",
            y=finite(map(test, epochs)),
            colour=_look(spec.activation)[0],
            dash="solid",
            marker="circle" + test_marker if marked else None,
            hover="epoch %{x}, test: %{y:.4f}<extra></extra>",
        )
        return one, other

    axis = _epoch_axis(x)
    loss = pair(lambda one: one.loss, lambda one: one.val_loss)
    share = pair(lambda one: one.accuracy, lambda one: one.val_accuracy)
    last = epochs[-1]
    measured = "not a number" if last.val_accuracy is None else f"{last.val_accuracy:.4f}"
    return Figure(
        title=title,
        note=f"After epoch {last.epoch}: test accuracy {measured}.",
        panels=(
            Lines(x=axis, y=_loss_axis(loss), series=loss),
            Lines(x=axis, y=Axis(title=TRAINING_SHARE), series=share),
        ),
    )


def gradient_norms(epochs: Sequence[EpochMetrics], spec: Spec) -> Figure:
    """Norm of each layer's gradient, for the first epoch, the last, and up to four between them."""
    title = f"Gradient by layer: {subject(spec)}"
    if not epochs:
        return Figure(title=title, note="No epoch has ended.")
    chosen = sorted({round(place) for place in np.linspace(0, len(epochs) - 1, 6)})
    series = tuple(
        Series(
            name=f"epoch {epochs[place].epoch}",
            x=_layers(epochs[place]),
            y=_positive(epochs[place].gradient_norms),
            colour=PALETTE[rank],
            dash=DASHES[rank],
            marker=MARKERS[rank] if spec.depth < MOST_MARKED else None,
            hover=f"epoch {epochs[place].epoch}, layer %{{x}}: %{{y:.3g}}<extra></extra>",
        )
        for rank, place in enumerate(chosen)
    )
    missing = sum(value is None for one in series for value in one.y)
    note = "On the first 1,000 training images, after the epoch." + _missing(missing)
    return Figure(title=title, note=note, panels=(_norm_lines("", series, spec.depth, scale=series),))


def confusion_matrix(counts: npt.NDArray[np.integer[Any]], labels: Sequence[str], of: str) -> Figure:
    """What each class was read as.

    Args:
        counts: Whole numbers (k, k): a row for each true class, a column for each answer.
        labels: Names of the k classes.
        of: What the title calls the run, such as `subject(spec)`.

    Raises:
        ValueError: the counts are not (k, k).
    """
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"counts of {len(labels)} classes must be square, and these are {counts.shape}")
    total, right = int(counts.sum()), int(np.trace(counts))
    title = f"What was read as what: {of}"
    if not total:
        return Figure(title=title, note="No image was read yet.")
    return Figure(
        title=title,
        note=f"{right:,} of {total:,} test images read right ({right / total:.4f}): the blue diagonal. "
        "Mistakes are orange, by their share of the row.",
        panels=(
            Cells(
                x_title="read as (class)",
                y_title="true class (number of test images)",
                labels=tuple(labels),
                counts=tuple(tuple(int(value) for value in row) for row in counts),
            ),
        ),
    )


def gallery(
    images: npt.NDArray[np.uint8],
    truths: npt.NDArray[np.integer[Any]],
    guesses: npt.NDArray[np.integer[Any]],
    confidences: npt.NDArray[np.floating[Any]],
    labels: Sequence[str],
    of: str,
) -> Figure:
    """Up to 50 test images: at most 30 mistakes, the most confident first, then images read right, in their order.

    Args:
        images: (n, 28, 28).
        truths: True class of each, (n,).
        guesses: Class that was read, (n,).
        confidences: Probability that the network gave to what it read, (n,), 0 to 1.
        labels: Names of the classes.
        of: What the title calls the run, such as `subject(spec)`.
    """
    title = f"Test images and what was read: {of}"
    if not len(images):
        return Figure(title=title, note="No image was read yet.")
    wrong = np.flatnonzero(truths != guesses)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")]
    right = np.flatnonzero(truths == guesses)
    shown = wrong[: max(MOST_MISTAKES, MOST_TILES - len(right))][:MOST_TILES]
    tiles = tuple(
        _tile(images[at], labels[truths[at]], labels[guesses[at]], float(confidences[at]))
        for at in (*shown, *right[: MOST_TILES - len(shown)])
    )
    which = f"the {len(shown)} most confident, framed, come first" if len(shown) < len(wrong) else "framed, come first"
    many = f"{len(wrong):,} mistakes in {len(images):,} test images" + (f"; {which}." if len(wrong) else ".")
    return Figure(
        title=title,
        note=f"{many} The number is the network's confidence, 0 to 1.",
        panels=(Pictures(tiles=tiles),),
    )


def subject(spec: Spec) -> str:
    """What a title calls a run: "relu, 3 hidden layers, seed 0", with what differs from the article's spec."""
    words = [spec.activation, f"{spec.depth} hidden layer{'' if spec.depth == 1 else 's'}", f"seed {spec.seed}"]
    if spec.units != Spec.model_fields["units"].default:
        words.insert(2, f"{spec.units} units")
    if spec.dataset != "mnist":
        words.append(spec.dataset.replace("_", "-").title())
    return ", ".join(words)


# --- Runs of a sweep -------------------------------------------------------------------------------------------------


def sweep_learning_curves(runs: Sequence[Run]) -> Figure:
    """Mean over seeds by epoch, and the band from the lowest to the highest seed, for each arm."""
    title = "Learning curves: mean over seeds"
    arms = _arms(run for run in runs if run.epochs)
    if not arms:
        return Figure(title=title, note="No epoch has ended.")
    most = max(20, 600 // len(arms))  # points a line: long trainings of many arms would make megabytes of JSON

    def lines(heading: str, measure: Callable[[EpochMetrics], float | None], *, share: bool) -> Lines:
        series = tuple(_over_epochs(label, group, look, measure, most) for label, group, look in arms)
        x = _epoch_axis([x for one in series for x in one.x])
        title = TEST_SHARE if heading.startswith("Test") else TRAINING_SHARE
        return Lines(title=heading, x=x, y=Axis(title=title) if share else _loss_axis(series), series=series)

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


def sweep_gradient_norms(runs: Sequence[Run]) -> Figure:
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
        _norm_lines("After the first epoch", first, depth, scale=first + last),
        _norm_lines("After the last epoch", last, depth, scale=first + last),
    )
    missing = sum(value is None for one in first + last for value in one.y)
    note = "Geometric mean; bands go from the lowest to the highest seed." + _missing(missing)
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
                y=_share_axis(series),
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


# --- Looks and numbers -----------------------------------------------------------------------------------------------

Look = tuple[str, str, str]
"""Colour, dash, marker."""


def _look(activation: str) -> tuple[str, str]:
    """Colour and filling of an activation, the same in every figure: 7 colours x 4 fillings for 28 activations."""
    rank = LOOK_ORDER.index(activation) if activation in LOOK_ORDER else len(LOOK_ORDER) - 1
    return PALETTE[rank % len(PALETTE)], FILLS[rank // len(PALETTE) % len(FILLS)]


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
        colour, fill = _look(activation)
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
    layers = _layers(ends[0])
    found = [_positive(one.gradient_norms[place] for one in ends) for place in range(len(layers))]
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
    colour, fill = _look(activation)
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


def _norm_lines(title: str, series: tuple[Series, ...], depth: int, *, scale: tuple[Series, ...]) -> Lines:
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


def _loss_axis(series: Sequence[Series]) -> Axis:
    """By powers of ten where a training was lost: on a plain axis every other line would be zero."""
    values = [value for one in series for value in (*one.y, *one.low, *one.high) if value is not None]
    if max(values, default=0.0) < MOST_NATS:
        return Axis(title=LOSS)
    lowest = math.floor(math.log10(min((value for value in values if value > 0), default=1.0)))
    highest = math.ceil(math.log10(max(values)))
    return Axis(title=LOSS, log=True, low=10.0**lowest, high=10.0**highest, ticks=_powers(lowest, highest))


def _share_axis(series: Sequence[Series]) -> Axis:
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


def _epoch_axis(x: Sequence[float]) -> Axis:
    low, high = int(min(x)), int(max(x))
    steps = (digit * 10**power for power in range(4) for digit in (1, 2, 5))
    step = next((step for step in steps if (high - low) / step <= 10), high - low)
    ticks = list(range(step * math.ceil(low / step), high + 1, step))
    if ticks[0] - low >= step / 2:
        ticks.insert(0, low)
    return Axis(title="epoch", ticks=tuple((float(tick), str(tick)) for tick in ticks))


def _layers(one: EpochMetrics) -> tuple[float, ...]:
    return tuple(float(layer) for layer in range(1, len(one.gradient_norms) + 1))


def _without(arms: int) -> str:
    return f" {arms} arm{' has' if arms == 1 else 's have'} no run that succeeded." if arms else ""


def _missing(count: int) -> str:
    return f" {count} {'is' if count == 1 else 'are'} not drawn: zero or not a number." if count else ""


def _positive(values: Iterable[float | None]) -> Numbers:
    """A log axis has no place for 0."""
    return tuple(value if value is not None and value > 0 else None for value in finite(values))


def _tile(image: npt.NDArray[np.uint8], truth: str, guess: str, confidence: float) -> Tile:
    mistake = truth != guess
    words = f"{truth} read as {guess}" if mistake else truth
    # A long name, such as Fashion-MNIST's, gets a line of its own.
    lines = (words,) if len(words) <= 12 else (truth, f"read as {guess}") if mistake else (truth,)
    told = f"{truth} read as {guess}, {confidence:.2f}" if mistake else f"{truth}, read right, {confidence:.2f}"
    return Tile(image=image, caption=(*lines, f"{confidence:.2f}"), mistake=mistake, hover=told)
