"""What a trainer says while it trains: the only language between trainers, engines and the worker."""

from dataclasses import dataclass

from service.domain.experiment import EpochMetrics, ErrorCode, Spec

__all__ = ["Alive", "Checkpoint", "EpochEnd", "Event", "Failed", "Job", "Trained"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a trainer needs for one attempt. It holds no credentials."""

    experiment_id: str
    attempt: int
    spec: Spec
    data_dir: str
    """Folder of the datasets."""
    checkpoint_seconds: float
    """Least time between two checkpoints; 0 makes one after every epoch."""
    resume: bytes | None = None
    """The last checkpoint's payload, or None to begin at the first epoch."""


@dataclass(frozen=True, kw_only=True)
class Alive:
    """A long epoch goes on. Without events a trainer counts as stalled."""


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """An epoch is done."""

    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """From `payload` training can go on after `epoch` with the same bits."""

    epoch: int
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Training is done and here is the model."""

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
    """Training cannot give a model, and trying again would not help."""

    code: ErrorCode
    message: str


Event = Alive | EpochEnd | Checkpoint | Trained | Failed
