"""/experiments/{id}/figures and /sweeps/{id}/figures: what was measured, to look at."""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from service import datasets
from service.analysis import figures, sweep_figures
from service.analysis.chart import DepthPoint, Figure, Run
from service.analysis.comparison import compare, each_seed_once
from service.analysis.plotly_json import plotly
from service.api.comparison import run_of
from service.api.deps import ExperimentId, Ports, PortsOf, refuse_repeats
from service.api.problems import responses
from service.api.security import needs
from service.api.sweeps import SweepId
from service.domain.access import Scope
from service.domain.experiment import EpochMetrics, Experiment
from service.domain.sweep import Sweep
from service.errors import NotInstalled
from service.store import experiments, models, sweeps

__all__ = ["router"]

router = APIRouter(tags=["figures"])

MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png", "html": "text/html"}
DRAWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string"}} for kind in MEDIA_TYPES.values()}}
}

OfExperiment = Literal["learning-curves", "gradient-norms", "confusion-matrix", "gallery"]
OfSweep = Literal["accuracy-by-depth", "seed-scatter", "learning-curves", "gradient-norms"]


class FigureQuery(BaseModel):
    """How to draw."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "svg", "png", "html"] = Field(
        default="json", description="`json` for Plotly; the others need the extra `figures` where the service runs."
    )
    width: int = Field(default=900, ge=240, le=3000, description="Of a PNG or SVG, in px.")


@router.get(
    "/experiments/{experiment_id}/figures/{name}",
    summary="Draw an experiment",
    response_model=dict[str, Any],
    responses=responses(404, 409, 410, 501) | DRAWN,
    dependencies=[needs(Scope.READ), Depends(refuse_repeats)],
)
def of_experiment(
    ports: PortsOf, experiment_id: ExperimentId, name: OfExperiment, query: Annotated[FigureQuery, Query()]
) -> Response:
    """A Plotly figure: `{"data": [...], "layout": {...}}`. `learning-curves` and `gradient-norms` grow while it trains;
    `confusion-matrix` and `gallery` show what its model reads in the test images, once there is one.
    """
    with ports.database.read() as session:
        experiment = experiments.get(session, experiment_id)
        epochs = experiments.metrics(session, experiment_id).epochs
    if name == "learning-curves":
        return _drawn(figures.learning_curves(epochs, experiment.spec), query)
    if name == "gradient-norms":
        return _drawn(figures.gradient_norms(epochs, experiment.spec), query)
    return _drawn(_of_model(ports, experiment, name), query)


@router.get(
    "/sweeps/{sweep_id}/figures/{name}",
    summary="Draw a sweep",
    response_model=dict[str, Any],
    responses=responses(404, 501) | DRAWN,
    dependencies=[needs(Scope.READ), Depends(refuse_repeats)],
)
def of_sweep(ports: PortsOf, sweep_id: SweepId, name: OfSweep, query: Annotated[FigureQuery, Query()]) -> Response:
    """A Plotly figure over all arms, as far as the sweep has come: means with their 95% intervals, or every seed."""
    with ports.database.read() as session:
        sweep = sweeps.get(session, sweep_id)
        members = each_seed_once(sweeps.members(session, sweep_id), functools.partial(run_of, sweep.spec))
        epochs = sweeps.epochs(session, sweep_id) if name in {"learning-curves", "gradient-norms"} else {}
    if name == "accuracy-by-depth":
        return _drawn(sweep_figures.accuracy_by_depth(_points(sweep, members)), query)
    draw = {
        "seed-scatter": sweep_figures.seed_scatter,
        "learning-curves": sweep_figures.learning_curves,
        "gradient-norms": sweep_figures.gradient_norms,
    }[name]
    return _drawn(draw([_run(sweep, one, epochs.get(one.id, ())) for one in members]), query)


def _drawn(figure: Figure, query: FigureQuery) -> Response:
    if query.format == "json":
        return JSONResponse(plotly(figure))
    try:
        from service.analysis.images import render  # Matplotlib takes a second and 70 MB, and is an extra
    except ImportError:
        raise NotInstalled("pictures need an extra where the service runs: pip install 'epochd[figures]'") from None
    return Response(render(figure, query.format, query.width), media_type=MEDIA_TYPES[query.format])


def _of_model(ports: Ports, experiment: Experiment, name: OfExperiment) -> Figure:
    with ports.database.read() as session:
        model = models.resolve_experiment(session, experiment.id)
    images, truths = _test_set(model.dataset, ports.settings.datasets_dir)
    probabilities = ports.predictor.probabilities(model, images.reshape(len(images), -1).astype(np.float32))
    guesses = probabilities.argmax(axis=1)
    labels, of = datasets.LABELS[model.dataset], figures.subject(experiment.spec)
    if name == "gallery":
        return figures.gallery(images, truths, guesses, probabilities.max(axis=1), labels, of)
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (truths, guesses), 1)
    return figures.confusion_matrix(counts, labels, of)


@functools.lru_cache(maxsize=2)
def _test_set(name: str, folder: Path) -> tuple[datasets.Images, datasets.Images]:
    return datasets.load_test(name, folder)


def _run(sweep: Sweep, experiment: Experiment, epochs: tuple[EpochMetrics, ...]) -> Run:
    spec = experiment.spec
    return Run(
        activation=spec.activation,
        depth=spec.depth,
        seed=spec.seed,
        variant=sweep.spec.variant_of(spec),
        epochs=epochs,
        test_accuracy=experiment.result.test_accuracy if experiment.result else None,
    )


def _points(sweep: Sweep, members: list[Experiment]) -> list[DepthPoint]:
    by_arm: dict[str, list[Experiment]] = {}
    for one in members:
        by_arm.setdefault(sweep.spec.arm_of(one.spec).label, []).append(one)
    arms = {arm.label: arm for arm in compare([run_of(sweep.spec, one) for one in members]).arms}
    points = []
    for label, own in by_arm.items():
        arm = arms[label]
        points.append(
            DepthPoint(
                activation=own[0].spec.activation,
                depth=own[0].spec.depth,
                variant=sweep.spec.variant_of(own[0].spec),
                mean=arm.accuracy.mean,
                low=arm.accuracy.low,
                high=arm.accuracy.high,
                accuracies=tuple(one.result.test_accuracy for one in own if one.result),
            )
        )
    return points
