"""The tables as Parquet files, with types."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.client import Client
from service.domain.experiment import HiddenLayer, Spec
from service.exports.selection import Selection
from service.exports.tables import EXPERIMENT_COLUMNS, MEASURES, Tables, open_folder

__all__ = ["as_parquet"]

ROW_GROUP = 2000
"""Rows in memory before they are written."""

NUMBERS: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64()}
TIME = pa.timestamp("us", tz="UTC")
TYPES = {
    "tags": pa.list_(pa.string()),
    "parameters": pa.int64(),
    "test_loss": pa.float64(),
    "test_accuracy": pa.float64(),
    "computation_seconds": pa.float64(),
    "attempt": pa.int64(),
    "created_at": TIME,
    "started_at": TIME,
    "finished_at": TIME,
} | {name: NUMBERS[field.annotation] for name, field in Spec.model_fields.items() if field.annotation in NUMBERS}
"""Types of the columns that are no strings."""

EXPERIMENTS = pa.schema([(column, TYPES.get(column, pa.string())) for column in EXPERIMENT_COLUMNS])
EPOCHS = pa.schema(
    [
        ("experiment_id", pa.string()),
        ("epoch", pa.int64()),
        *((measure, pa.float64()) for measure in MEASURES),
        ("gradient_norms", pa.list_(pa.float64())),
        ("gradient_ratio", pa.float64()),
        ("gradients", pa.string()),
        ("hidden", pa.list_(pa.struct([(field, pa.float64()) for field in HiddenLayer.model_fields]))),
    ]
)


@contextlib.contextmanager
def as_parquet(api: Client, selection: Selection, path: Path, *, models: bool, force: bool) -> Iterator[Tables]:
    """`experiments.parquet` and `epochs.parquet` in a folder: times in UTC, lists as lists, null for what is not there.

    Raises:
        ExportError: they are there already, and `force` is not given.
    """
    with (
        open_folder(path, selection, suffix="parquet", models=models, force=force) as folder,
        pq.ParquetWriter(folder.file("experiments.parquet"), EXPERIMENTS, compression="zstd") as experiments,
        pq.ParquetWriter(folder.file("epochs.parquet"), EPOCHS, compression="zstd") as epochs,
    ):
        writer = _ParquetWriter(_Rows(experiments), _Rows(epochs))
        yield Tables(api, folder, writer, suffix="parquet", models=models)
        writer.flush()


class _Rows:
    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, self._file.schema))
            self._rows.clear()


class _ParquetWriter:
    def __init__(self, experiments: _Rows, epochs: _Rows) -> None:
        self._experiments = experiments
        self._epochs = epochs

    def experiment(self, row: dict[str, Any]) -> None:
        self._experiments.add(row)

    def epoch(self, row: dict[str, Any]) -> None:
        self._epochs.add(row)

    def flush(self) -> None:
        self._experiments.flush()
        self._epochs.flush()
