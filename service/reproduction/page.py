"""The reproduction's page, in Markdown."""

import math
import os
import platform
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from service.analysis.intervals import holm, prediction_p
from service.domain.article import ARTICLE
from service.reproduction.results import ARTICLE_EPOCHS, Arm, Results

__all__ = ["beside_the_article", "written"]


def written(results: Results) -> Iterator[str]:
    """Its lines."""
    count = sum(map(len, results.runs.values()))
    yield f"# The article's question, over {results.seeds} seeds"
    yield ""
    yield (
        "Why does ReLU beat sigmoid, and why does depth hurt sigmoid? A blog article asked, and trained each network "
        f"once. Here every network is trained {results.seeds} times, from {results.seeds} different initial weights."
    )
    yield ""
    yield (
        f"Made by `{results.command}` with epochd {version('epochd')}: {count} networks of {_epochs(results)} in "
        f"{results.wall_seconds:.0f} s on {os.cpu_count()} cores ({platform.machine()}). Numbers are the same bits on "
        "the same kind of processor. Every figure is read from the REST API."
    )
    yield ""
    yield from beside_the_article(results)
    yield from _by_depth(results)
    yield from _paired(results)
    yield from _gradients(results)
    yield "## What is what"
    yield ""
    yield results.comparison["method"]
    yield ""
    yield "[Statistics over seeds](statistics.md) says what these numbers mean, and what they do not."


def beside_the_article(results: Results) -> Iterator[str]:
    """The article's figures and whether they lie where ours do."""
    yield "## Beside the article's figures"
    yield ""
    told = [
        _Told(arm, name, value, results.summary(arm)[name], tuple(results.of_end(arm, name)))
        for arm in ARTICLE
        if arm in results.runs
        for name, value in zip(("accuracy", "loss"), ARTICLE[arm], strict=True)
    ]
    if results.epochs != ARTICLE_EPOCHS or not told:
        theirs = "" if results.epochs == ARTICLE_EPOCHS else f": they had {_epochs(results)}"
        yield (
            f"The article's networks were sigmoid and ReLU at depths 1 to 3, trained for {ARTICLE_EPOCHS} epochs. None "
            f"of these networks is like them{theirs}."
        )
        yield ""
        return
    columns = ("article: accuracy", "here: mean", "lowest to highest", "within", "article: loss", "here", "within")
    yield f"| network | {' | '.join(columns)} |"
    yield f"|{' --- |' * (len(columns) + 1)}"
    for accuracy, loss in zip(told[::2], told[1::2], strict=True):
        cells = [f"{accuracy.arm[0]}, depth {accuracy.arm[1]}"]
        cells += [f"{accuracy.value:.4f}", f"{accuracy.spread['mean']:.4f}", *accuracy.cells]
        cells += [f"{loss.value:.4f}", *loss.cells]
        yield f"| {' | '.join(cells)} |"
    yield ""
    chance = 2 / (results.seeds + 1)
    expected = (
        f"A run like ours lies outside the range of {results.seeds} others with probability 2/{results.seeds + 1} = "
        f"{chance:.1%}, so of {len(told)} figures about {len(told) * chance:.1f} may be expected outside by chance "
        "alone."
    )
    outside = [one for one in told if not one.within]
    if not outside:
        yield f"All {len(told)} figures lie within our range. {expected}"
        yield ""
        return
    adjusted = dict(zip(map(id, told), holm([prediction_p(one.value, one.ours) or 0.0 for one in told]), strict=True))
    lie = "lies" if len(outside) == 1 else "lie"
    yield f"{len(outside)} of {len(told)} figures {lie} outside of our range. {expected}"
    yield ""
    yield from (f"- {_outside(one, adjusted[id(one)])}" for one in outside)
    yield ""


@dataclass(frozen=True)
class _Told:
    """A figure of the article, beside ours."""

    arm: Arm
    name: str
    value: float
    spread: Mapping[str, Any]
    ours: tuple[float, ...]

    @property
    def within(self) -> bool:
        return bool(self.spread["min"] <= self.value <= self.spread["max"])

    @property
    def cells(self) -> tuple[str, str]:
        return f"{self.spread['min']:.4f} to {self.spread['max']:.4f}", "yes" if self.within else "**no**"


def _outside(told: _Told, p: float) -> str:
    nearest = told.spread["min" if told.value < told.spread["mean"] else "max"]
    unlike = "which chance does not explain: the article's program must differ"
    p_told = "< 0.001" if p < 0.001 else f"= {p:.2g}"
    return (
        f"{told.arm[0]}, depth {told.arm[1]}: the article's {told.name} {told.value:.4f} is "
        f"{abs(told.value - nearest):.4f} beyond our nearest run, {'which chance explains' if p >= 0.05 else unlike} "
        f"(prediction from {len(told.ours)} seeds, Holm-adjusted p {p_told})."
    )


def _epochs(results: Results) -> str:
    return f"{results.epochs} epoch{'' if results.epochs == 1 else 's'}"


def _by_depth(results: Results) -> Iterator[str]:
    yield "## Accuracy by depth"
    yield ""
    yield "![Mean test accuracy by depth, with 95% intervals](figures/accuracy-by-depth.svg)"
    yield ""
    yield "| network | mean test accuracy | 95% interval | standard deviation | lowest | highest |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for arm in results.runs:
        found = results.summary(arm)["accuracy"]
        interval = "-" if found["low"] is None else f"{found['low']:.4f} to {found['high']:.4f}"
        deviation = "-" if found["standard_deviation"] is None else f"{found['standard_deviation']:.4f}"
        yield (
            f"| {arm[0]}, depth {arm[1]} | {found['mean']:.4f} | {interval} | {deviation} | {found['min']:.4f} | "
            f"{found['max']:.4f} |"
        )
    yield ""
    yield results.comparison["reading"]
    yield ""
    yield "![Test accuracy of every seed](figures/seed-scatter.svg)"
    yield ""
    yield "![Loss and accuracy by epoch, training and test](figures/learning-curves.svg)"
    yield ""


def _paired(results: Results) -> Iterator[str]:
    yield "## ReLU against sigmoid"
    yield ""
    yield "The same seed with either activation, and the difference of their test accuracies:"
    yield ""
    yield "| depth | ReLU minus sigmoid | 95% interval | seeds that ReLU wins | Holm-adjusted p |"
    yield "| --- | --- | --- | --- | --- |"
    for depth in sorted({arm[1] for arm in results.runs if arm[0] == "relu"}):
        labels = {f"{activation}, depth {depth}" for activation in ("relu", "sigmoid")}
        pair = next((one for one in results.comparison["pairs"] if {one["first"], one["second"]} == labels), None)
        if pair is None:
            continue
        sign = 1 if pair["first"].startswith("relu") else -1
        wins = pair["wins"] if sign == 1 else pair["n"] - pair["wins"] - pair["ties"]
        ends = sorted(sign * end for end in (pair["low"], pair["high"]) if end is not None)
        interval = f"{ends[0]:+.4f} to {ends[1]:+.4f}" if ends else "-"
        p = "-" if pair["p_holm"] is None else "< 0.0001" if pair["p_holm"] < 1e-4 else f"{pair['p_holm']:.4f}"
        yield f"| {depth} | {sign * pair['mean']:+.4f} | {interval} | {wins} of {pair['n']} | {p} |"
    yield ""


def _gradients(results: Results) -> Iterator[str]:
    yield "## Why: the gradient that reaches the first layer"
    yield ""
    yield (
        "A network learns by the gradient of its loss. It is computed from the last layer back to the first, and each "
        "layer multiplies it by the slope of its activation. Sigmoid's slope is 1/4 at most, and next to 0 where it is "
        "saturated; ReLU's is 1 wherever it answers at all. So the first layers of a deep sigmoid network are told "
        "almost nothing of what to do better."
    )
    yield ""
    yield "The first layer's gradient over the last layer's, after the first epoch: geometric mean over seeds."
    yield ""
    yield "| network | first / last | vanishing | healthy | exploding | outputs saturated in the first layer |"
    yield "| --- | --- | --- | --- | --- | --- |"
    ratios: dict[Arm, float] = {}
    for arm in results.runs:
        found = results.of_epoch(arm, 0)
        known = [one.gradient_ratio for one in found if one.gradient_ratio]
        # No mean where one is zero: that of the others would hide that it vanished.
        whole = len(known) == len(found)
        ratios[arm] = math.exp(statistics.fmean(map(math.log, known))) if whole else math.nan
        verdicts = [sum(one.gradients == verdict for one in found) for verdict in ("vanishing", "healthy", "exploding")]
        flat = [one.hidden[0].saturated for one in found if one.hidden and one.hidden[0].saturated is not None]
        saturated = f"{statistics.fmean(flat):.1%}" if flat else "-"
        counts = " | ".join(f"{count} of {len(found)}" for count in verdicts)
        ratio = f"{ratios[arm]:.4f}" if whole else "-"
        yield f"| {arm[0]}, depth {arm[1]} | {ratio} | {counts} | {saturated} |"
    yield ""
    yield "![Gradient norm by layer](figures/gradient-norms.svg)"
    yield ""
    yield from _factors(ratios)


def _factors(ratios: Mapping[Arm, float]) -> Iterator[str]:
    """By how much one more layer changes the ratio, between the shallowest and the deepest network."""
    said = []
    for activation in dict.fromkeys(arm[0] for arm in ratios):
        depths = sorted(arm[1] for arm in ratios if arm[0] == activation)
        low, high = ratios[activation, depths[0]], ratios[activation, depths[-1]]
        if len(depths) > 1 and low > 0 and high > 0:
            said.append(f"{(high / low) ** (1 / (depths[-1] - depths[0])):.2f} for {activation}")
    if said:
        yield (
            f"Each further hidden layer multiplies that ratio by {', '.join(said)} after the first epoch. "
            "`vanishing` is a ratio below 0.1, `exploding` one above 10: one layer learns ten times slower."
        )
        yield ""
