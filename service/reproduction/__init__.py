"""The article's question over many seeds, asked through the REST API, and written down as a page with figures."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.analysis import sweep_figures
from service.analysis.chart import DepthPoint, Figure, Run
from service.background import running_service
from service.client import Client
from service.domain.article import ARTICLE
from service.domain.experiment import Experiment
from service.domain.sweep import SweepSpec, SweepStatus
from service.errors import EpochdError
from service.reproduction.page import written
from service.reproduction.results import Arm, Results
from service.settings import Settings

__all__ = ["ACTIVATIONS", "DEPTHS", "ReproductionError", "run"]

ACTIVATIONS = ("sigmoid", "relu", "tanh", "gelu")
DEPTHS = (1, 2, 3, 5, 8)
POLL_SECONDS = 0.5

Render = Callable[[Figure], bytes]


class ReproductionError(EpochdError):
    """The reproduction could not go on."""


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
    page.write_text("\n".join(written(results)) + "\n", encoding="utf-8")
    console.print(f"{spec.size} networks in {results.wall_seconds:.0f} s. Written: {page}", soft_wrap=True)
    return page


def _collect(api: Client, spec: SweepSpec, console: Console) -> Results:
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
    return Results(
        seeds=spec.repeats,
        epochs=next(iter(runs.values()))[0].spec.epochs,
        wall_seconds=seconds,
        comparison=sweep.comparison().model_dump(mode="json"),
        runs=runs,
        measured={one.id: api.metrics(one.id).epochs for own in runs.values() for one in own},
    )


def _figures(results: Results) -> dict[str, Figure]:
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
        "accuracy-by-depth": sweep_figures.accuracy_by_depth(points),
        "seed-scatter": sweep_figures.seed_scatter(some(lambda arm: arm in ARTICLE)),
        "learning-curves": sweep_figures.learning_curves(some(lambda arm: arm in ARTICLE)),
        "gradient-norms": sweep_figures.gradient_norms(some(lambda arm: arm[0] in pair and arm[1] in deep)),
    }
