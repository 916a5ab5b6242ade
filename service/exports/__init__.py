"""`epochd export`: results move into the tools that people already use, read through the REST API."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.client import ApiError, Client, ExperimentNotFound
from service.domain.experiment import Experiment, Status
from service.exports.selection import Selection
from service.exports.target import ExportError, Target

__all__ = ["ExportError", "Order", "Tool", "run"]

Tool = Literal["csv", "parquet", "tensorboard", "mlflow"]

MLFLOW_EXPERIMENT = "epochd"

# Some of these are read when MLflow is imported. It would report its use to its makers, try an address where nobody
# answers for four minutes, and print two lines for every run. Whoever has set them keeps what they set.
MLFLOW_MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to export, and where to."""

    to: Tool
    ids: tuple[str, ...] = ()
    """These experiments. All that the filters leave when there are none."""
    sweep_id: str | None = None
    tags: tuple[str, ...] = ()
    """Experiments that have all of them."""
    statuses: tuple[Status, ...] = ()
    """Experiments in any of them."""
    output: Path | None = None
    """The folder for files. Not for MLflow."""
    force: bool = False
    """Whether to replace what an earlier export wrote."""
    models: bool = False
    """Whether the models' files go along."""
    tracking_uri: str | None = None
    """MLflow's store. MLflow's own choice when None: `MLFLOW_TRACKING_URI`, else a file in the working directory."""
    mlflow_experiment: str | None = None
    """MLflow's experiment to put runs into; it is made when there is none."""


def run(api: Client, order: Order, console: Console) -> str:
    """Export, with a progress bar on the console. Returns a line that says what was written where.

    Raises:
        ExportError: the order contradicts itself, an extra is not installed, or the target cannot be written.
        ApiError: the service does not answer, or does not know an experiment or the sweep.
    """
    _require_sense(order)
    open_target = _opener(order)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    gone = 0
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bars, Selection() as selection:
        listing = bars.add_task("listing", total=None)
        for experiment in _chosen(api, order):
            selection.add(experiment)
            bars.update(listing, completed=len(selection))
        if not len(selection):
            raise ExportError("there is nothing to export: no experiment matches")
        with _told_in_one_line(), open_target(api, selection) as target:
            bars.remove_task(listing)
            for experiment in bars.track(selection, total=len(selection), description=f"to {order.to}"):
                try:
                    target.add(experiment)
                except ExperimentNotFound:
                    gone += 1  # it was deleted since it was listed
                except ApiError as error:
                    raise _named(error, experiment.id) from error
        return target.summary(len(selection) - gone) + (f"; deleted meanwhile: {gone:,}" if gone else "")


def _require_sense(order: Order) -> None:
    if order.ids and (order.sweep_id is not None or order.tags or order.statuses):
        raise ExportError("give experiments by their ids or by --sweep, --tag and --status, not by both")
    if order.to == "mlflow":
        if order.output or order.force:
            raise ExportError("--output and --force are for files: --to mlflow writes to --tracking-uri")
        return
    if order.output is None:
        raise ExportError(f"--to {order.to} needs a folder to write to: --output DIR")
    if order.tracking_uri or order.mlflow_experiment:
        raise ExportError(f"--tracking-uri and --mlflow-experiment are for --to mlflow, not for --to {order.to}")
    if order.models and order.to == "tensorboard":
        raise ExportError("TensorBoard shows no model files: --models goes with --to mlflow, csv or parquet")


def _opener(order: Order) -> Callable[[Client, Selection], AbstractContextManager[Target]]:
    """What opens the target. Imports the extra that it needs: the others need not be installed."""
    path = order.output or Path()
    if order.to == "csv":
        from service.exports.tables import as_csv

        return lambda api, chosen: as_csv(api, chosen, path, models=order.models, force=order.force)
    try:
        if order.to == "parquet":
            from service.exports.parquet import as_parquet

            return lambda api, chosen: as_parquet(api, chosen, path, models=order.models, force=order.force)
        if order.to == "tensorboard":
            from service.exports.tensorboard_runs import as_runs

            return lambda api, chosen: as_runs(api, chosen, path, force=order.force)
        for name, value in MLFLOW_MANNERS.items():
            os.environ.setdefault(name, value)
        from service.exports.mlflow_runs import as_mlflow_runs
    except ModuleNotFoundError as error:
        raise ExportError(
            f"--to {order.to} needs {error.name}, which is not installed: pip install 'epochd[{order.to}]'"
        ) from error
    name = order.mlflow_experiment or MLFLOW_EXPERIMENT
    return lambda api, _: as_mlflow_runs(api, tracking_uri=order.tracking_uri, name=name, models=order.models)


def _chosen(api: Client, order: Order) -> Iterator[Experiment]:
    if order.ids:
        for experiment_id in dict.fromkeys(order.ids):
            try:
                yield api.get_experiment(experiment_id).value
            except ApiError as error:
                raise _named(error, experiment_id) from error
        return
    # A sweep that is not there would be one without experiments, if it were not asked for.
    sweep_id = None if order.sweep_id is None else api.get_sweep(order.sweep_id).id
    found = api.experiments(status=order.statuses, tag=order.tags, sweep_id=sweep_id, sort="created_at")
    yield from (one.value for one in found)


def _named(error: ApiError, experiment_id: str) -> ApiError:
    """The service's answer, with the experiment that it is about."""
    return error if error.status is None else error.about(f"experiment {experiment_id}")


@contextlib.contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ExportError(f"the export cannot be written: {where}{error.strerror or error}") from error
