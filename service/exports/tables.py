"""Two tables, a row for each experiment and a row for each epoch, and their writing as CSV."""

import contextlib
import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from service.client import Client
from service.domain.experiment import Experiment, HiddenLayer, Metrics, Spec
from service.exports.selection import Selection
from service.exports.target import Folder, read

__all__ = ["EXPERIMENT_COLUMNS", "MEASURES", "MODEL_KINDS", "Tables", "Writer", "as_csv", "open_folder"]

EXPERIMENT_COLUMNS = (
    "id",
    "status",
    *Spec.model_fields,
    "parameters",
    "test_loss",
    "test_accuracy",
    "computation_seconds",
    "weights_sha256",
    "error_code",
    "error_message",
    "attempt",
    "sweep_id",
    "retry_of",
    "created_at",
    "started_at",
    "finished_at",
)
MEASURES = ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")
"""What is one number in every epoch."""
MODEL_KINDS: tuple[Literal["keras", "onnx"], ...] = ("keras", "onnx")


class Writer(Protocol):
    """Writes rows: values by column, as Python has them."""

    def experiment(self, row: dict[str, Any]) -> None:
        """Write a row of experiments, with every one of `EXPERIMENT_COLUMNS`."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Write a row of epochs: `experiment_id` and the fields of `EpochMetrics`."""


class Tables:
    """Fills both tables, and puts the models' files beside them when they are wanted."""

    def __init__(self, api: Client, folder: Folder, writer: Writer, *, suffix: str, models: bool) -> None:
        self._api = api
        self._folder = folder
        self._writer = writer
        self._suffix = suffix
        self._models = models
        self._epochs = 0
        self._files = 0

    def add(self, experiment: Experiment) -> None:
        """Write its row, its epochs and its model."""
        experiment, metrics = read(self._api, experiment)
        if self._models and experiment.model:
            for kind in MODEL_KINDS:
                self._api.download(experiment.id, self._folder.file(f"models/{experiment.id}.{kind}"), kind)
                self._files += 1
        self._writer.experiment(_experiment_row(experiment, metrics))
        for epoch in metrics.epochs:
            self._writer.epoch({"experiment_id": experiment.id} | epoch.model_dump())
            self._epochs += 1

    def summary(self, count: int) -> str:
        """How many rows are in which file."""
        first, second = (self._folder.path / f"{table}.{self._suffix}" for table in ("experiments", "epochs"))
        models = f", {self._files:,} model files in {self._folder.path / 'models'}" if self._models else ""
        return f"experiments: {count:,} in {first}; epochs: {self._epochs:,} in {second}{models}"


def open_folder(path: Path, selection: Selection, *, suffix: str, models: bool, force: bool) -> Folder:
    """The folder of both tables, once it is sure that nothing in it will be overwritten without `force`.

    Raises:
        ExportError: something would be.
    """

    def names() -> Iterator[str]:
        yield f"experiments.{suffix}"
        yield f"epochs.{suffix}"
        for experiment in selection if models else ():
            for kind in MODEL_KINDS:
                yield f"models/{experiment.id}.{kind}"

    return Folder(path, names(), force=force)


@contextlib.contextmanager
def as_csv(api: Client, selection: Selection, path: Path, *, models: bool, force: bool) -> Iterator[Tables]:
    """`experiments.csv` and `epochs.csv` in a folder: UTF-8, a header each, an empty field for what is not there.

    Raises:
        ExportError: they are there already, and `force` is not given.
    """
    with (
        open_folder(path, selection, suffix="csv", models=models, force=force) as folder,
        folder.file("experiments.csv").open("w", newline="", encoding="utf-8") as experiments,
        folder.file("epochs.csv").open("w", newline="", encoding="utf-8") as epochs,
    ):
        writer = _CsvWriter(csv.writer(experiments, lineterminator="\n"), csv.writer(epochs, lineterminator="\n"))
        writer.headers(selection.deepest)
        yield Tables(api, folder, writer, suffix="csv", models=models)


class _CsvRows(Protocol):
    def writerow(self, row: list[Any], /) -> object: ...


class _CsvWriter:
    def __init__(self, experiments: _CsvRows, epochs: _CsvRows) -> None:
        self._experiments = experiments
        self._epochs = epochs
        self._deepest = 0

    def headers(self, deepest: int) -> None:
        self._deepest = deepest
        norms = [f"gradient_norm_{layer}" for layer in range(1, deepest + 2)]
        hidden = [f"hidden_{layer}_{field}" for layer in range(1, deepest + 1) for field in HiddenLayer.model_fields]
        self._experiments.writerow(list(EXPERIMENT_COLUMNS))
        self._epochs.writerow(
            ["experiment_id", "epoch", *MEASURES, *norms, "gradient_ratio", "gradients", *hidden],
        )

    def experiment(self, row: dict[str, Any]) -> None:
        self._experiments.writerow([_text(row[column]) for column in EXPERIMENT_COLUMNS])

    def epoch(self, row: dict[str, Any]) -> None:
        norms = [*row["gradient_norms"]]
        hidden = [layer[field] for layer in row["hidden"] for field in HiddenLayer.model_fields]
        self._epochs.writerow(
            [
                row["experiment_id"],
                row["epoch"],
                *(row[measure] for measure in MEASURES),
                *_padded(norms, self._deepest + 1),
                row["gradient_ratio"],
                row["gradients"],
                *_padded(hidden, self._deepest * len(HiddenLayer.model_fields)),
            ]
        )


def _padded(values: list[Any], length: int) -> list[Any]:
    return values + [None] * (length - len(values))


def _text(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    # A tag may hold any separator, so tags are a JSON array.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value


def _experiment_row(experiment: Experiment, metrics: Metrics) -> dict[str, Any]:
    result, error = experiment.result, experiment.error
    return {name: getattr(experiment.spec, name) for name in Spec.model_fields} | {
        "id": experiment.id,
        "status": str(experiment.status),
        "parameters": experiment.spec.parameters,
        "test_loss": result.test_loss if result else None,
        "test_accuracy": result.test_accuracy if result else None,
        "computation_seconds": metrics.computation_seconds,  # also of what did not succeed
        "weights_sha256": experiment.model.weights_sha256 if experiment.model else None,
        "error_code": error.code if error else None,
        "error_message": error.message if error else None,
        "attempt": experiment.attempt,
        "sweep_id": experiment.sweep_id,
        "retry_of": experiment.retry_of,
        "created_at": experiment.created_at,
        "started_at": experiment.started_at,
        "finished_at": experiment.finished_at,
    }
