"""MLflow: a run for each experiment, of which there is one however often it is exported."""

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from service.client import Client
from service.domain.experiment import Experiment, Metrics, Status
from service.exports.series import of_epoch
from service.exports.tables import MODEL_KINDS
from service.exports.target import ExportError, read

__all__ = ["ARTIFACTS", "as_mlflow_runs"]

ARTIFACTS = "model"
"""The folder of a run's model files."""

RUN_STATUS = {
    Status.QUEUED: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.CANCELLING: "RUNNING",
    Status.SUCCEEDED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.CANCELLED: "KILLED",
}
ENDED = {RUN_STATUS[status] for status in Status if status.terminal}

# What MLflow takes in one call, by its documentation of `log_batch`, and in one tag.
BATCH_METRICS = 1000
TAG_LENGTH = 5000


@contextlib.contextmanager
def as_mlflow_runs(api: Client, *, tracking_uri: str | None, name: str, models: bool) -> Iterator["MlflowRuns"]:
    """MLflow's experiment of this name, made if there is none.

    Raises:
        ExportError: MLflow refuses, or does not answer.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
    try:
        mlflow = MlflowClient(tracking_uri)
        found = mlflow.get_experiment_by_name(name)
        experiment_id = found.experiment_id if found else mlflow.create_experiment(name)
        yield MlflowRuns(api, mlflow, name, experiment_id, models=models)
    except (MlflowException, SQLAlchemyError) as error:  # not every fault of a database is wrapped
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise ExportError(f"MLflow: {first}") from error
    except ModuleNotFoundError as error:
        raise ExportError(f"MLflow needs {error.name} for this address, which is not installed") from error


class MlflowRuns:
    """Writes runs into one experiment of MLflow's."""

    def __init__(self, api: Client, mlflow: MlflowClient, name: str, experiment_id: str, *, models: bool) -> None:
        self._api = api
        self._mlflow = mlflow
        self._name = name
        self._experiment_id = experiment_id
        self._models = models
        self._known = 0

    def add(self, experiment: Experiment) -> None:
        """Make its run, or bring the one that is there up to date."""
        run = self._find(experiment)
        self._known += run is not None
        if run and run.info.status in ENDED:
            # A run is ended last of all. This one lacks nothing but models that were not asked for then.
            self._add_model(run.info.run_id, experiment)
            return
        experiment, metrics = read(self._api, experiment)
        run_id = run.info.run_id if run else self._create(experiment)
        self._log(run_id, experiment, metrics, after_epoch=self._last_step(run_id) if run else 0)
        self._add_model(run_id, experiment)
        self._set_status(run_id, experiment)

    def summary(self, count: int) -> str:
        """How many runs are where, and how many of them are new."""
        uri = re.sub(r"://[^/@]*@", "://", self._mlflow.tracking_uri)  # a password is nobody's business
        known = f", {self._known:,} of them there before" if self._known else ""
        return f"runs: {count:,} in the MLflow experiment {self._name} at {uri}{known}"

    def _find(self, experiment: Experiment) -> Run | None:
        found = self._mlflow.search_runs(
            [self._experiment_id], filter_string=f"tags.`epochd.id` = '{experiment.id}'", max_results=1
        )
        return found[0] if found else None

    def _create(self, experiment: Experiment) -> str:
        spec = experiment.spec
        run = self._mlflow.create_run(
            self._experiment_id,
            start_time=_milliseconds((experiment.started_at or experiment.created_at).timestamp()),
            run_name=spec.name or f"{spec.activation}-{spec.depth}-{spec.seed}",
            tags={"epochd.id": experiment.id},
        )
        run_id: str = run.info.run_id
        return run_id

    def _last_step(self, run_id: str) -> int:
        return max((one.step for one in self._mlflow.get_metric_history(run_id, "seconds")), default=0)

    def _log(self, run_id: str, experiment: Experiment, metrics: Metrics, *, after_epoch: int) -> None:
        """Log what came after an epoch. A batch has all of an epoch or nothing of it: an export that was interrupted
        is taken up again after the last epoch that MLflow has.
        """
        self._mlflow.log_batch(run_id, params=_params(experiment), tags=_tags(experiment, metrics))
        now, step = (experiment.started_at or experiment.created_at).timestamp(), 0
        batch: list[Metric] = []
        for epoch in metrics.epochs:
            now, step = now + epoch.seconds, epoch.epoch
            if step <= after_epoch:
                continue
            numbers = _metrics(of_epoch(epoch, separator="_"), now, step)
            if len(batch) + len(numbers) > BATCH_METRICS:
                self._mlflow.log_batch(run_id, metrics=batch)
                batch = []
            batch += numbers
        if batch:
            self._mlflow.log_batch(run_id, metrics=batch)
        if experiment.result:
            # MLflow drops what it has already, to the millisecond.
            self._mlflow.log_batch(run_id, metrics=_metrics(experiment.result.model_dump(), now, step))

    def _add_model(self, run_id: str, experiment: Experiment) -> None:
        if not (self._models and experiment.model):
            return
        there = {file.path for file in self._mlflow.list_artifacts(run_id, ARTIFACTS)}
        with tempfile.TemporaryDirectory(prefix="epochd-export-") as folder:
            for kind in MODEL_KINDS:
                path = Path(folder) / f"model.{kind}"
                if f"{ARTIFACTS}/{path.name}" not in there:
                    self._api.download(experiment.id, path, kind)
                    self._mlflow.log_artifact(run_id, str(path), ARTIFACTS)

    def _set_status(self, run_id: str, experiment: Experiment) -> None:
        status, end = RUN_STATUS[experiment.status], experiment.finished_at
        if end:
            self._mlflow.set_terminated(run_id, status, _milliseconds(end.timestamp()))
        else:
            self._mlflow.update_run(run_id, status=status)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _metrics(numbers: dict[str, float], seconds: float, step: int) -> list[Metric]:
    return [Metric(name, number, _milliseconds(seconds), step) for name, number in numbers.items()]


def _params(experiment: Experiment) -> list[Param]:
    spec = experiment.spec.model_dump(mode="json", exclude={"tags"})
    return [Param(name, str(value)) for name, value in spec.items() if value is not None]


def _tags(experiment: Experiment, metrics: Metrics) -> list[RunTag]:
    error = experiment.error
    values: dict[str, Any] = {
        "epochd.status": str(experiment.status),
        "epochd.sweep_id": experiment.sweep_id,
        "epochd.retry_of": experiment.retry_of,
        "epochd.tags": json.dumps(experiment.spec.tags, ensure_ascii=False) if experiment.spec.tags else None,
        "epochd.weights_sha256": experiment.model.weights_sha256 if experiment.model else None,
        "epochd.gradients": metrics.epochs[-1].gradients if metrics.epochs else None,
        "epochd.error_code": error.code if error else None,
        "epochd.error_message": error.message[:TAG_LENGTH] if error else None,
    }
    return [RunTag(name, value) for name, value in values.items() if value is not None]
