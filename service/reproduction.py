"""The article's question over many seeds, asked through the REST API, and written down as a page with figures."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.analysis import figures
from service.analysis.chart import DepthPoint, Figure, Run
from service.background import running_service
from service.client import Client
from service.domain.article import ARTICLE
from service.domain.experiment import EpochMetrics, Experiment
from service.domain.sweep import SweepSpec, SweepStatus
from service.errors import EpochdError
from service.settings import Settings

__all__ = ["ACTIVATIONS", "DEPTHS", "ReproductionError", "run"]

ACTIVATIONS = ("sigmoid", "relu", "tanh", "gelu")
DEPTHS = (1, 2, 3, 5, 8)
POLL_SECONDS = 0.5

Render = Callable[[Figure], bytes]
Arm = tuple[str, int]
"""Activation and depth."""


class ReproductionError(EpochdError):
    """The reproduction could not go on."""


@dataclass(frozen=True, kw_only=True)
class _Results:
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

    def of_epoch(self, arm: Arm, epoch: int) -> list[EpochMetrics]:
        """What every run of an arm measured after an epoch; -1 for the last."""
        return [self.measured[one.id][epoch] for one in self.runs[arm]]


def run(
    settings: Settings,
    console: Console,
    *,
    render: Render,
    output: Path,
    seeds: int,
    activations: Sequence[str] = ACTIVATIONS,
    depths: Sequence[int] = DEPTHS,
    epochs: int = 10,
) -> Path:
    """Start a service, run the sweep, and write `reproduction.md` with its figures into a folder. Returns the page.

    `render` makes an SVG of a figure.

    Raises:
        ServiceError: the service does not start.
        ReproductionError: an experiment did not succeed.
        ApiError: the service refused the sweep.
    """
    grid = {"activation": list(activations), "depth": list(depths)}
    spec = SweepSpec.model_validate(
        {"grid": grid, "base": {"epochs": epochs, "tags": ["reproduction"]}, "seeds": seeds, "name": "reproduction"}
    )
    with running_service(settings, log_name="reproduction.log") as (api, url):
        console.print(f"Queueing {spec.size} experiments: POST {url}/sweeps")
        results = _collect(api, spec, console)
    (output / "figures").mkdir(parents=True, exist_ok=True)
    drawn = {name: render(figure) for name, figure in _figures(results).items()}
    for name, picture in drawn.items():
        (output / "figures" / f"{name}.svg").write_bytes(picture)
    page = output / "reproduction.md"
    page.write_text("\n".join(_page(results)) + "\n", encoding="utf-8")
    console.print(f"{spec.size} networks in {results.wall_seconds:.0f} s. Written: {page}", soft_wrap=True)
    return page


def _collect(api: Client, spec: SweepSpec, console: Console) -> _Results:
    begun = time.monotonic()
    sweep = api.create_sweep(spec)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("experiments", total=spec.size)
        while sweep.value.status is not SweepStatus.FINISHED:
            time.sleep(POLL_SECONDS)
            sweep.refresh()
            bars.update(task, completed=sweep.progress.done)
    seconds = time.monotonic() - begun
    if sweep.progress.succeeded != spec.size:
        missing = spec.size - sweep.progress.succeeded
        raise ReproductionError(f"{missing} experiments of sweep {sweep.id} did not succeed")
    runs: dict[Arm, list[Experiment]] = {}
    for one in sweep.experiments(sort="created_at"):
        runs.setdefault((one.spec.activation, one.spec.depth), []).append(one.value)
    return _Results(
        seeds=spec.repeats,
        epochs=next(iter(runs.values()))[0].spec.epochs,
        wall_seconds=seconds,
        comparison=sweep.comparison().model_dump(mode="json"),
        runs=runs,
        measured={one.id: api.metrics(one.id).epochs for own in runs.values() for one in own},
    )


def _figures(results: _Results) -> dict[str, Figure]:
    def some(wanted: Callable[[Arm], bool]) -> list[Run]:
        return [
            Run(
                activation=arm[0],
                depth=arm[1],
                seed=one.spec.seed,
                epochs=results.measured[one.id],
                test_accuracy=one.result.test_accuracy if one.result else None,
            )
            for arm, own in results.runs.items()
            if wanted(arm)
            for one in own
        ]

    points = []
    for arm, own in results.runs.items():
        spread = results.summary(arm)["accuracy"]
        points.append(
            DepthPoint(
                activation=arm[0],
                depth=arm[1],
                mean=spread["mean"],
                low=spread["low"],
                high=spread["high"],
                accuracies=tuple(one.result.test_accuracy for one in own if one.result),
            )
        )
    pair = {"sigmoid", "relu"}
    deep = [depth for depth in {arm[1] for arm in results.runs} if depth in {3, 8}] or [max(a[1] for a in results.runs)]
    return {
        "accuracy-by-depth": figures.accuracy_by_depth(points),
        "seed-scatter": figures.seed_scatter(some(lambda arm: arm in ARTICLE)),
        "learning-curves": figures.sweep_learning_curves(some(lambda arm: arm in ARTICLE)),
        "gradient-norms": figures.sweep_gradient_norms(some(lambda arm: arm[0] in pair and arm[1] in deep)),
    }


# --- The page --------------------------------------------------------------------------------------------------------


def _page(results: _Results) -> Iterator[str]:
    count = sum(map(len, results.runs.values()))
    yield f"# The article's question, over {results.seeds} seeds"
    yield ""
    yield (
        "Why does ReLU beat sigmoid, and why does depth hurt sigmoid? A blog article asked, and trained each network "
        f"once. Here every network is trained {results.seeds} times, from {results.seeds} different initial weights."
    )
    yield ""
    yield (
        f"Made by `make reproduce` with epochd {version('epochd')}: {count} networks of {results.epochs} epochs in "
        f"{results.wall_seconds:.0f} s on {os.cpu_count()} cores ({platform.machine()}). Numbers are the same bits on "
        "the same kind of processor. Every figure is read from the REST API."
    )
    yield ""
    yield from _beside_the_article(results)
    yield from _by_depth(results)
    yield from _paired(results)
    yield from _gradients(results)
    yield "## What is what"
    yield ""
    yield results.comparison["method"]
    yield ""
    yield "[Statistics over seeds](statistics.md) says what these numbers mean, and what they do not."


def _beside_the_article(results: _Results) -> Iterator[str]:
    yield "## Beside the article's figures"
    yield ""
    columns = ("article: accuracy", "here: mean", "lowest to highest", "within", "article: loss", "here", "within")
    yield f"| network | {' | '.join(columns)} |"
    yield f"|{' --- |' * (len(columns) + 1)}"
    outside: list[str] = []
    told = 0
    for arm in (arm for arm in ARTICLE if arm in results.runs):
        cells = [f"{arm[0]}, depth {arm[1]}"]
        summary = results.summary(arm)
        for name, value in zip(("accuracy", "loss"), ARTICLE[arm], strict=True):
            spread = summary[name]
            within = spread["min"] <= value <= spread["max"]
            told += 1
            if not within:
                outside.append(_outside(arm, name, value, spread))
            cells += [f"{value:.4f}", *([f"{spread['mean']:.4f}"] if name == "accuracy" else [])]
            cells += [f"{spread['min']:.4f} to {spread['max']:.4f}", "yes" if within else "**no**"]
        yield f"| {' | '.join(cells)} |"
    yield ""
    chance = 2 / (results.seeds + 1)
    expected = (
        f"A run like ours lies outside the range of {results.seeds} others with probability 2/{results.seeds + 1} = "
        f"{chance:.1%}, so of {told} figures about {told * chance:.1f} may be expected outside by chance alone."
    )
    if outside:
        yield f"{len(outside)} of {told} figures lie outside of our range. {expected}"
        yield ""
        yield from (f"- {text}" for text in outside)
    else:
        yield f"All {told} figures lie within our range. {expected}"
    yield ""


def _outside(arm: Arm, name: str, value: float, spread: Mapping[str, Any]) -> str:
    nearest = spread["min"] if value < spread["min"] else spread["max"]
    distance = abs(value - spread["mean"]) / spread["standard_deviation"] if spread["standard_deviation"] else math.inf
    unlike = "which chance does not explain: the article's program must differ"
    why = "which chance explains" if distance < 3.5 else unlike
    return (
        f"{arm[0]}, depth {arm[1]}: the article's {name} {value:.4f} is {abs(value - nearest):.4f} beyond our nearest "
        f"run, {distance:.1f} standard deviations from our mean, {why}."
    )


def _by_depth(results: _Results) -> Iterator[str]:
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


def _paired(results: _Results) -> Iterator[str]:
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


def _gradients(results: _Results) -> Iterator[str]:
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
        ratios[arm] = math.exp(statistics.fmean(map(math.log, known))) if known else math.nan
        verdicts = [sum(one.gradients == verdict for one in found) for verdict in ("vanishing", "healthy", "exploding")]
        flat = [one.hidden[0].saturated for one in found if one.hidden and one.hidden[0].saturated is not None]
        saturated = f"{statistics.fmean(flat):.1%}" if flat else "-"
        counts = " | ".join(f"{count} of {len(found)}" for count in verdicts)
        yield f"| {arm[0]}, depth {arm[1]} | {ratios[arm]:.4f} | {counts} | {saturated} |"
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
