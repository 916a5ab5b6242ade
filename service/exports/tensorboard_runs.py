"""TensorBoard: a run for each experiment, written by TensorBoard's own code without TensorFlow."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

# `tensorboard.summary.Writer` would import TensorFlow where it is installed. What is below does not.
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from service.client import Client
from service.domain.experiment import Experiment, Metrics, Status
from service.exports.selection import Selection
from service.exports.series import of_epoch
from service.exports.target import Folder, read

__all__ = ["as_runs", "run_name"]

SESSION_STATUS = {
    Status.SUCCEEDED: api_pb2.STATUS_SUCCESS,
    Status.FAILED: api_pb2.STATUS_FAILURE,
    Status.CANCELLED: api_pb2.STATUS_FAILURE,
}
NO_HYPERPARAMETERS = {"name", "tags", "priority"}


@contextlib.contextmanager
def as_runs(api: Client, selection: Selection, path: Path, *, force: bool) -> Iterator["Runs"]:
    """A log folder for `tensorboard --logdir`.

    Raises:
        ExportError: a run of an experiment is there already, and `force` is not given.
    """
    with Folder(path, map(_file_name, selection), force=force) as folder:
        yield Runs(api, folder)


class Runs:
    """Writes an event file for each experiment."""

    def __init__(self, api: Client, folder: Folder) -> None:
        self._api = api
        self._folder = folder

    def add(self, experiment: Experiment) -> None:
        """Write its run."""
        experiment, metrics = read(self._api, experiment)
        with self._folder.file(_file_name(experiment)).open("wb") as file:
            _write(file, experiment, metrics)

    def summary(self, count: int) -> str:
        """How many runs are where, and how to see them."""
        return f"runs: {count:,} in {self._folder.path}; see them with tensorboard --logdir {self._folder.path}"


def run_name(experiment: Experiment) -> str:
    """What TensorBoard calls it: activation, depth and seed, and the end of its id. The beginning of an id is a time,
    which the experiments of a sweep share.
    """
    spec = experiment.spec
    return f"{spec.activation}-{spec.depth}-{spec.seed}-{experiment.id[-12:]}"


def _file_name(experiment: Experiment) -> str:
    # The same for every export of an experiment: TensorBoard would show a second file's numbers beside the first's.
    return f"{run_name(experiment)}/events.out.tfevents.{int(experiment.created_at.timestamp())}.epochd"


def _write(file: BinaryIO, experiment: Experiment, metrics: Metrics) -> None:
    records = RecordWriter(file)
    started = (experiment.started_at or experiment.created_at).timestamp()

    def write(event: Event) -> None:
        records.write(event.SerializeToString())

    write(Event(wall_time=started, file_version="brain.Event:2"))
    spec = experiment.spec.model_dump(exclude=NO_HYPERPARAMETERS)
    write(Event(wall_time=started, summary=hparams_pb(spec, trial_id=experiment.id, start_time_secs=started)))
    now, step = started, 0
    for epoch in metrics.epochs:
        # When an epoch ended is not kept, so waiting between attempts is left out.
        now, step = now + epoch.seconds, epoch.epoch
        write(Event(wall_time=now, step=step, summary=_scalars(of_epoch(epoch, separator="/"))))
    if experiment.result:
        tested = {"test_loss": experiment.result.test_loss, "test_accuracy": experiment.result.test_accuracy}
        write(Event(wall_time=now, step=step, summary=_scalars(tested)))
    if experiment.finished_at:
        end = SessionEndInfo(status=SESSION_STATUS[experiment.status], end_time_secs=experiment.finished_at.timestamp())
        write(Event(wall_time=now, step=step, summary=_session_end(end)))


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def _session_end(info: SessionEndInfo) -> Summary:
    about = metadata.create_summary_metadata(HParamsPluginData(session_end_info=info))
    return Summary(
        value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)]
    )
