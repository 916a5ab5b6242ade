"""What a trainer says while it trains: the only language between trainers, engines and the worker."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from service.domain.experiment import EpochMetrics, ErrorCode, Spec

__all__ = ["Alive", "Checkpoint", "EpochEnd", "Event", "Failed", "Job", "Member", "Stopped", "Stops", "Trained"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One attempt at one experiment, as part of a job."""

    experiment_id: str
    attempt: int
    spec: Spec
    trace_context: str | None = None
    """`traceparent` of the attempt, if it is traced."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a trainer needs for one attempt at each of some experiments. It holds no credentials."""

    members: tuple[Member, ...]
    """Experiments to train as one: their specs differ by `seed`, and by what training does not read."""
    data_dir: str
    """Folder of the datasets."""
    checkpoint_seconds: float
    """Least time between two checkpoints; 0 makes one after every epoch."""
    resume: tuple[bytes, ...] = ()
    """The members' last checkpoints' payloads, of the same epoch, or nothing to begin at the first epoch."""


class Stops:
    """Which members of a job shall stop. May be asked and told from several threads."""

    def __init__(self) -> None:
        self._stopped: set[str] = set()
        self._told: list[Callable[[str], None]] = []
        self._changed = threading.Condition()

    def stop(self, experiment_id: str) -> None:
        """This member shall end after the epoch under way."""
        with self._changed:
            if experiment_id in self._stopped:
                return
            self._stopped.add(experiment_id)
            self._changed.notify_all()
            for tell in self._told:
                tell(experiment_id)

    def tell(self, other: Callable[[str], None]) -> None:
        """Call `other` with each member that shall stop, those that are known by now first."""
        with self._changed:
            self._told.append(other)
            for experiment_id in self._stopped:
                other(experiment_id)

    def __contains__(self, experiment_id: str) -> bool:
        with self._changed:
            return experiment_id in self._stopped

    def wait(self, experiment_id: str) -> None:
        """Return when this member shall stop."""
        with self._changed:
            self._changed.wait_for(lambda: experiment_id in self._stopped)


@dataclass(frozen=True, kw_only=True)
class Alive:
    """A long epoch goes on. Without events a trainer counts as stalled."""


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """An epoch is done."""

    metrics: dict[str, EpochMetrics]
    """By experiment, of each member that still trains."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """From `payload` this member's training can go on after `epoch` with the same bits."""

    experiment_id: str
    epoch: int
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Trained:
    """This member's training is done and here is the model."""

    experiment_id: str
    test_loss: float
    test_accuracy: float
    evaluation_seconds: float
    parameters: int
    weights_sha256: str
    keras: bytes
    """A `.keras` archive."""
    onnx: bytes
    """An ONNX model: input float32 (n, 784) of 0..1, output float32 (n, 10) of probabilities."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """This member's training cannot give a model, and trying again would not help."""

    experiment_id: str
    code: ErrorCode
    message: str


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """This member heeded a stop: what it has learnt since its last checkpoint is gone."""

    experiment_id: str


Event = Alive | EpochEnd | Checkpoint | Trained | Failed | Stopped
