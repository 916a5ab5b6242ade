"""The domain's errors. They know no HTTP: `api/problems.py` maps them.

EpochdError
├── InvalidInput
│   ├── SpecTooLarge
│   ├── SweepTooLarge
│   ├── TrainingTooCostly
│   ├── InvalidImage
│   ├── InvalidCursor
│   ├── UnknownArm
│   └── IdempotencyKeyReused
├── NotAuthenticated
├── NotPermitted
│   └── CrossOrigin
├── SeveralHosts
├── UnknownHost
├── NotFound
│   ├── ExperimentNotFound
│   ├── SweepNotFound
│   ├── ModelNotFound
│   ├── AliasNotFound
│   └── KeyNotFound
├── Conflict
│   ├── KeyNameTaken
│   ├── ExperimentNotFinished
│   ├── ExperimentAlreadyFinished
│   ├── ExperimentHasAlias
│   ├── SweepNotFinished
│   ├── SweepAlreadyFinished
│   ├── ReservedAlias
│   └── IdempotencyKeyInFlight
├── TooLarge
├── QueueFull
│   └── KeyQueueFull
├── LimitReached
│   ├── QuotaReached
│   └── RateLimited
├── UnsupportedMediaType
├── NotInstalled
├── StartError
├── Unavailable
│   ├── SchemaOutOfDate
│   ├── BlobCorrupt
│   └── BlobMissing
├── LeaseLost
└── TrainingError
    ├── TrainingDiverged
    ├── OutOfMemory
    ├── CpuTimeExceeded
    └── DatasetUnavailable
"""

from typing import ClassVar, Literal

__all__ = [
    "AliasNotFound",
    "BlobCorrupt",
    "BlobMissing",
    "Conflict",
    "CpuTimeExceeded",
    "CrossOrigin",
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
    "KeyNameTaken",
    "KeyNotFound",
    "KeyQueueFull",
    "LeaseLost",
    "LimitReached",
    "ModelNotFound",
    "NotAuthenticated",
    "NotFound",
    "NotInstalled",
    "NotPermitted",
    "OutOfMemory",
    "QueueFull",
    "QuotaReached",
    "RateLimited",
    "ReservedAlias",
    "SchemaOutOfDate",
    "SeveralHosts",
    "SpecTooLarge",
    "StartError",
    "SweepAlreadyFinished",
    "SweepNotFinished",
    "SweepNotFound",
    "SweepTooLarge",
    "TooLarge",
    "TrainingDiverged",
    "TrainingError",
    "TrainingTooCostly",
    "Unavailable",
    "UnknownArm",
    "UnknownHost",
    "UnsupportedMediaType",
]


TrainingErrorCode = Literal[
    "training_diverged", "out_of_memory", "cpu_time_exceeded", "dataset_unavailable", "internal"
]


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


class TrainingTooCostly(InvalidInput):
    """Training would cost more than the operator allows."""

    @classmethod
    def of(cls, what: str, cost: int, most: int) -> "TrainingTooCostly":
        """The error that says what would cost how much, and what would cost less."""
        return cls(
            f"{what} would cost {cost:,} parameter-steps, and at most {most:,} are allowed: parameters times steps. "
            "Fewer epochs, fewer units, a smaller depth or larger batches (up to 1,000 images) cost less"
        )


class InvalidImage(InvalidInput):
    """The bytes or numbers are no picture that can be read."""


class InvalidCursor(InvalidInput):
    """The page cursor was not made by this service for this sort order."""


class UnknownArm(InvalidInput):
    """No arm of the sweep has this label."""


class IdempotencyKeyReused(InvalidInput):
    """The `Idempotency-Key` was used before with another request."""


class NotAuthenticated(EpochdError):
    """An API key is asked for, and none was given that is good. `key_id` is the public part of the bad one, empty where
    that has none; None where no key was given.
    """

    def __init__(self, message: str, key_id: str | None = None) -> None:
        super().__init__(message)
        self.key_id = key_id


class NotPermitted(EpochdError):
    """The API key does not allow this."""


class CrossOrigin(NotPermitted):
    """A browser asks on behalf of a page from elsewhere."""


class SeveralHosts(EpochdError):
    """The request has more than one `Host` header: of two parties on its way, each might believe another one."""


class UnknownHost(EpochdError):
    """The request names a host that this service is not."""


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


class KeyNotFound(NotFound):
    """No API key has this id or name."""


class Conflict(EpochdError):
    """The request does not fit the present state."""


class KeyNameTaken(Conflict):
    """Another API key that is not revoked has this name."""


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


class KeyQueueFull(QueueFull):
    """More experiments of one API key would wait than the operator allows each key."""


class LimitReached(EpochdError):
    """Whoever asks has had as much as the operator allows in this time. `retry_after` is when there is more, in whole
    seconds from now.
    """

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaReached(LimitReached):
    """An API key's training of today would cost more than the operator allows each key."""


class RateLimited(LimitReached):
    """More requests came than the operator allows in this time."""


class UnsupportedMediaType(EpochdError):
    """The body is of a media type that the operation does not read."""


class NotInstalled(EpochdError):
    """An extra that this needs is not installed where it was asked for."""


class StartError(EpochdError):
    """The service cannot start; the text says what to do."""


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


class CpuTimeExceeded(TrainingError):
    """Training took more of a processor's time than the operator allows."""

    code = "cpu_time_exceeded"


class DatasetUnavailable(TrainingError):
    """No source of the dataset could be reached, or none gave the right bytes."""

    code = "dataset_unavailable"
