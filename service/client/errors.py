"""What can go wrong for a client: the service's problems (RFC 9457), each as an error of its own.

ApiError
├── NoAnswer
├── WaitTimeout
├── ExperimentFailed
├── InvalidRequest
│   ├── SpecTooLarge
│   ├── SweepTooLarge
│   ├── TrainingTooCostly
│   ├── InvalidImage
│   ├── UnknownArm
│   └── IdempotencyKeyReused
├── NotAuthenticated
├── NotPermitted
│   └── CrossOrigin
├── UnknownHost
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
│   └── KeyQueueFull
├── LimitReached
│   ├── QuotaReached
│   └── RateLimited
├── NotInstalled
└── Unavailable
    └── Overloaded
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from service.domain.experiment import Experiment
from service.errors import EpochdError

__all__ = [
    "AliasNotFound",
    "ApiError",
    "Conflict",
    "CrossOrigin",
    "ExperimentAlreadyFinished",
    "ExperimentFailed",
    "ExperimentHasAlias",
    "ExperimentNotFinished",
    "ExperimentNotFound",
    "FieldError",
    "IdempotencyKeyInFlight",
    "IdempotencyKeyReused",
    "InvalidImage",
    "InvalidRequest",
    "KeyQueueFull",
    "LimitReached",
    "ModelNotFound",
    "NoAnswer",
    "NotAuthenticated",
    "NotFound",
    "NotInstalled",
    "NotPermitted",
    "Overloaded",
    "QueueFull",
    "QuotaReached",
    "RateLimited",
    "ReservedAlias",
    "SpecTooLarge",
    "SweepAlreadyFinished",
    "SweepNotFinished",
    "SweepNotFound",
    "SweepTooLarge",
    "TooLarge",
    "TrainingTooCostly",
    "Unavailable",
    "UnknownArm",
    "UnknownHost",
    "WaitTimeout",
]

PREFIX = "urn:epochd:problem:"


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong with a request."""

    pointer: str
    """JSON pointer (RFC 6901) to what is wrong; empty for the whole."""
    message: str
    location: str
    """`body`, `query`, `path` or `header`."""


class ApiError(EpochdError):
    """The service answered with a problem, with something else than epochd does, or not at all."""

    by_status: ClassVar[int | None] = None
    """The status whose problems are this error when their type has none of its own."""

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        title: str = "",
        type: str = "about:blank",  # noqa: A002 - RFC 9457's name
        errors: Sequence[FieldError] = (),
        arrived: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        """What was wrong, and what would be right."""
        self.status = status
        """HTTP status, or None when there was no answer."""
        self.title = title
        self.type = type
        """Stable name of the kind of problem."""
        self.errors = tuple(errors)
        """Each field that is wrong, when the request was."""
        self.arrived = arrived
        """Whether the request may have arrived once without its answer coming back, and been acted on."""
        self.retry_after = retry_after
        """Seconds after which the service asks to be asked again, by `Retry-After`. None when it says nothing of it."""

    def about(self, subject: str) -> Self:
        """The same error, which says first what it is about."""
        return type(self)(
            f"{subject}: {self.detail}",
            status=self.status,
            title=self.title,
            type=self.type,
            errors=self.errors,
            arrived=self.arrived,
            retry_after=self.retry_after,
        )


class NoAnswer(ApiError):
    """The service cannot be reached, or the connection broke."""


class WaitTimeout(ApiError, TimeoutError):
    """What was waited for did not end in time. It goes on."""


class ExperimentFailed(ApiError):
    """The experiment that was waited for has failed or was cancelled."""

    def __init__(self, experiment: Experiment) -> None:
        why = f"{experiment.error.message} ({experiment.error.code})" if experiment.error else "it was cancelled"
        super().__init__(f"experiment {experiment.id} gave no model: {why}")
        self.experiment = experiment
        """With `error.code` and `error.message`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.experiment,)  # an exception's own way gives the text


class InvalidRequest(ApiError):
    """The request cannot be meant: `errors` says where and why."""

    by_status = 422


class SpecTooLarge(InvalidRequest):
    """The network has more parameters than the operator allows."""


class SweepTooLarge(InvalidRequest):
    """The sweep has more experiments than the operator allows."""


class TrainingTooCostly(InvalidRequest):
    """Training would cost more than the operator allows."""


class InvalidImage(InvalidRequest):
    """The picture cannot be read."""


class UnknownArm(InvalidRequest):
    """No arm of the sweep has this label."""


class IdempotencyKeyReused(InvalidRequest):
    """The `Idempotency-Key` was used before with another request."""


class NotAuthenticated(ApiError):
    """The service wants an API key, or does not know this one."""

    by_status = 401


class NotPermitted(ApiError):
    """The API key does not allow this."""

    by_status = 403


class CrossOrigin(NotPermitted):
    """A browser asks on behalf of a page from elsewhere."""


class UnknownHost(ApiError):
    """The service is not known to itself by the name that it was asked by."""

    by_status = 421


class NotFound(ApiError):
    """There is no such thing."""

    by_status = 404


class ExperimentNotFound(NotFound):
    """No experiment has this id."""


class SweepNotFound(NotFound):
    """No sweep has this id."""


class ModelNotFound(NotFound):
    """There is no model to answer with, or the experiment has none."""


class AliasNotFound(NotFound):
    """No model has this alias."""


class Conflict(ApiError):
    """The request does not fit the present state."""

    by_status = 409


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


class TooLarge(ApiError):
    """The request is larger than the operator allows."""

    by_status = 413


class QueueFull(ApiError):
    """More experiments would wait than the operator allows, and still did after some retries."""

    by_status = 429


class KeyQueueFull(QueueFull):
    """More experiments of this API key would wait than the operator allows each key."""


class LimitReached(ApiError):
    """Whoever asks has had as much as the operator allows in this time."""


class QuotaReached(LimitReached):
    """This API key's training of today would cost more than the operator allows: there is more tomorrow, by UTC."""


class RateLimited(LimitReached):
    """More requests came than the operator allows in some time, and still did after some retries."""


class NotInstalled(ApiError):
    """An extra that this needs is not installed where the service runs."""

    by_status = 501


class Unavailable(ApiError):
    """Something that the service needs is away, and still was after some retries."""

    by_status = 503


class Overloaded(Unavailable):
    """The service has more to do than it can do soon."""


def _descendants(kind: type[ApiError]) -> list[type[ApiError]]:
    return [one for child in kind.__subclasses__() for one in (child, *_descendants(child))]


# The API names a problem after its error, and so does this module.
BY_NAME = {re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in _descendants(ApiError)}
BY_STATUS = {kind.by_status: kind for kind in BY_NAME.values() if "by_status" in vars(kind)}


def problem(status: int, answer: Mapping[str, Any], otherwise: str) -> ApiError:
    """The error that an answer of this status is. `otherwise` is its text when it has none."""
    type_ = str(answer.get("type", "about:blank"))
    kind = BY_NAME.get(type_.removeprefix(PREFIX)) or BY_STATUS.get(status, ApiError)
    told = answer.get("errors")
    faults = [
        FieldError(str(fault.get("pointer", "")), str(fault.get("message", "")), str(fault.get("location", "")))
        for fault in (told if isinstance(told, list) else ())
        if isinstance(fault, Mapping)
    ]
    detail = answer.get("detail")
    return kind(
        detail if isinstance(detail, str) and detail else otherwise,
        status=status,
        title=str(answer.get("title", "")),
        type=type_,
        errors=faults,
    )
