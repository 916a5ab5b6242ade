"""The domain's errors. They know no HTTP: `api/problems.py` maps them.

EpochdError
├── InvalidInput
│   ├── SpecTooLarge
│   ├── SweepTooLarge
│   ├── InvalidImage
│   ├── InvalidCursor
│   ├── UnknownArm
│   └── IdempotencyKeyReused
├── NotFound
│   ├── ExperimentNotFound
│   ├── SweepNotFound
│   ├── ModelNotFound
│   └── AliasNotFound
├── Conflict
│   ├── ExperimentNotFinished
│   ├── ExperimentAlreadyFinished
│   ├── ExperimentHasAlias
│   ├── SweepNotFinished
│   ├── SweepAlreadyFinished
│   ├── ReservedAlias
│   └── IdempotencyKeyInFlight
├── TooLarge
├── QueueFull
├── UnsupportedMediaType
├── NotInstalled
├── Unavailable
│   ├── SchemaOutOfDate
│   ├── BlobCorrupt
│   └── BlobMissing
├── LeaseLost
└── TrainingError
    ├── TrainingDiverged
    ├── OutOfMemory
    └── DatasetUnavailable
"""

from typing import ClassVar, Literal

__all__ = [
    "AliasNotFound",
    "BlobCorrupt",
    "BlobMissing",
    "Conflict",
    "DatasetUnavailable",
    "EpochdError",
    "ExperimentAlreadyFinished",
    "ExperimentHasAlias",
    "ExperimentNotFinished",
    "ExperimentNotFound",
    "IdempotencyKeyInFlight",
    "IdempotencyKeyReused",
    "InvalidCursor",
    "InvalidImage",
    "InvalidInput",
    "LeaseLost",
    "ModelNotFound",
    "NotFound",
    "NotInstalled",
    "OutOfMemory",
    "QueueFull",
    "ReservedAlias",
    "SchemaOutOfDate",
    "SpecTooLarge",
    "SweepAlreadyFinished",
    "SweepNotFinished",
    "SweepNotFound",
    "SweepTooLarge",
    "TooLarge",
    "TrainingDiverged",
    "TrainingError",
    "Unavailable",
    "UnknownArm",
    "UnsupportedMediaType",
]


TrainingErrorCode = Literal["training_diverged", "out_of_memory", "dataset_unavailable", "internal"]


class EpochdError(Exception):
    """The root. Its text is written for the person who made the call: it may be shown as it is."""


class InvalidInput(EpochdError):
    """The request is well-formed but cannot be meant. `pointer` is an RFC 6901 JSON pointer into its body."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class SpecTooLarge(InvalidInput):
    """The network has more parameters than the operator allows."""


class SweepTooLarge(InvalidInput):
    """The sweep has more experiments than the operator allows."""


class InvalidImage(InvalidInput):
    """The bytes or numbers are no picture that can be read."""


class InvalidCursor(InvalidInput):
    """The page cursor was not made by this service for this sort order."""


class UnknownArm(InvalidInput):
    """No arm of the sweep has this label."""


class IdempotencyKeyReused(InvalidInput):
    """The `Idempotency-Key` was used before with another request."""


class NotFound(EpochdError):
    """There is no such thing."""


class ExperimentNotFound(NotFound):
    """No experiment has this id."""


class SweepNotFound(NotFound):
    """No sweep has this id."""


class ModelNotFound(NotFound):
    """There is no model to answer with, or the experiment has none."""


class AliasNotFound(NotFound):
    """No model has this alias."""


class Conflict(EpochdError):
    """The request does not fit the present state."""


class ExperimentNotFinished(Conflict):
    """The experiment has not ended yet."""


class ExperimentAlreadyFinished(Conflict):
    """The experiment has ended already."""


class ExperimentHasAlias(Conflict):
    """An alias points at the experiment's model."""


class SweepNotFinished(Conflict):
    """Some experiments of the sweep have not ended yet."""


class SweepAlreadyFinished(Conflict):
    """Every experiment of the sweep has ended already."""


class ReservedAlias(Conflict):
    """The alias is computed and cannot be set."""


class IdempotencyKeyInFlight(Conflict):
    """The first request with this `Idempotency-Key` has not been answered yet."""


class TooLarge(EpochdError):
    """The body is larger than the operator allows."""


class QueueFull(EpochdError):
    """More experiments would wait than the operator allows: try again when some have begun."""


class UnsupportedMediaType(EpochdError):
    """The body is of a media type that the operation does not read."""


class NotInstalled(EpochdError):
    """An extra that this needs is not installed where it was asked for."""


class Unavailable(EpochdError):
    """Something the service needs is away for now."""


class Overloaded(Unavailable):
    """There is more to do than can be done soon."""


class SchemaOutOfDate(Unavailable):
    """The database's schema is not the one this version needs."""


class BlobCorrupt(Unavailable):
    """A stored file does not have the SHA-256 it was written with."""


class BlobMissing(Unavailable):
    """A stored file is gone."""


class LeaseLost(EpochdError):
    """Another attempt owns the experiment now, or it has ended: this one must stop and write nothing."""


class TrainingError(EpochdError):
    """Training ended without a model. `code` is the stable name in the experiment's `error`."""

    code: ClassVar[TrainingErrorCode] = "internal"


class TrainingDiverged(TrainingError):
    """The loss became NaN or infinite, or after an epoch exceeded 10,000 nats."""

    code = "training_diverged"


class OutOfMemory(TrainingError):
    """The network or its batches did not fit into memory."""

    code = "out_of_memory"


class DatasetUnavailable(TrainingError):
    """No source of the dataset could be reached, or none gave the right bytes."""

    code = "dataset_unavailable"
