"""/experiments: queue, list, read, cancel, retry, delete."""

import csv
import hashlib
import io
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import orjson
from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import ExperimentId, PortsOf, TraceContext, prefers_csv, refuse_repeats
from service.api.problems import responses
from service.api.quotas import admit
from service.api.security import ActorOf, needs
from service.domain.access import Scope
from service.domain.cost import require_affordable
from service.domain.experiment import Activation, Dataset, Experiment, Metrics, Spec, Status, Tag
from service.errors import SpecTooLarge
from service.serving.predictor import own_name
from service.store import experiments, idempotency, listing, trail
from service.store.listing import Filter

__all__ = ["router"]

router = APIRouter(prefix="/experiments", tags=["experiments"])

POLL_AFTER_SECONDS = "1"

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of your choice. The same key with the same body gives the first answer again.",
    ),
]

SPEC_EXAMPLES = {
    "relu": {"summary": "ReLU, one hidden layer", "value": {"activation": "relu", "depth": 1}},
    "sigmoid": {
        "summary": "Sigmoid, three hidden layers",
        "value": {"activation": "sigmoid", "depth": 3, "seed": 7, "name": "deep sigmoid", "tags": ["article"]},
    },
    "wide": {
        "summary": "Wider and shorter",
        "value": {"activation": "gelu", "depth": 2, "units": 128, "epochs": 5, "optimizer": "adamw"},
    },
}


class Links(BaseModel):
    """Paths of what belongs to an experiment."""

    self: str
    metrics: str
    events: str
    cancel: str
    retry: str
    model: str | None = Field(description="Null until there is a model.")


class ExperimentAnswer(Experiment):
    """An experiment and where to go from it."""

    links: Links


class ExperimentPage(BaseModel):
    """Some experiments."""

    data: list[ExperimentAnswer]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class ListQuery(BaseModel):
    """How to list experiments. A filter given twice takes either value; different filters narrow each other."""

    model_config = ConfigDict(extra="forbid")

    status: list[Status] = Field(default_factory=list)
    activation: list[Activation] = Field(default_factory=list)
    depth: list[Annotated[int, Field(ge=1, le=64)]] = Field(default_factory=list, max_length=64)
    dataset: list[Dataset] = Field(default_factory=list)
    sweep_id: UUID | None = None
    tag: list[Tag] = Field(default_factory=list, max_length=32, description="Experiments that have all these tags.")
    sort: Literal["created_at", "-created_at", "test_accuracy", "-test_accuracy"] = Field(
        default="-created_at", description="`-` for descending. Experiments without a test accuracy come last."
    )
    cursor: Annotated[str, Field(max_length=500, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=200)


class MetricsQuery(BaseModel):
    """Which metrics to read."""

    model_config = ConfigDict(extra="forbid")

    after_epoch: int = Field(default=0, ge=0, le=2**31 - 1, description="Only the epochs after this one.")


@router.post(
    "",
    status_code=202,
    summary="Queue an experiment",
    responses=responses(409, 413, 415, 429),
    response_description="It is queued; its `Location` tells how it goes.",
    dependencies=[needs(Scope.WRITE)],
)
def create(
    ports: PortsOf,
    actor: ActorOf,
    trace_context: TraceContext,
    response: Response,
    spec: Annotated[Spec, Body(openapi_examples=cast("Any", SPEC_EXAMPLES))],
    idempotency_key: IdempotencyKey = None,
) -> ExperimentAnswer:
    """Queue a training run and return at once. A worker takes it when its turn comes: larger `priority` first,
    then the older.

    Only `activation` and `depth` are required. With an `Idempotency-Key` a repeated request queues nothing and gets
    the first answer again; the same key with another body is refused.
    """
    if spec.parameters > ports.settings.max_parameters:
        raise SpecTooLarge(
            f"the network would have {spec.parameters:,} parameters, and at most {ports.settings.max_parameters:,} "
            "are trained here: take fewer units or a smaller depth",
            "/units",
        )
    require_affordable(spec, most=ports.settings.max_training_cost)
    most = ports.settings.max_queued
    with ports.database.write() as session:

        def act() -> dict[str, Any]:
            admit(session, actor.key_id, ports.settings, count=1, cost=spec.training_cost)
            made = experiments.create(
                session, spec, created_by=actor.key_id, trace_context=trace_context, max_queued=most
            )
            trail.record(session, actor, "experiment.create", made.id)
            return _answer(made).model_dump(mode="json")

        stored = idempotency.once(
            session,
            idempotency.key_of(actor, idempotency_key),
            fingerprint=_fingerprint(spec),
            keep_hours=ports.settings.idempotency_hours,
            act=act,
        )
    return _accepted(response, ExperimentAnswer.model_validate(stored))


@router.get(
    "", summary="List experiments", responses=responses(), dependencies=[needs(Scope.READ), Depends(refuse_repeats)]
)
def list_(ports: PortsOf, query: Annotated[ListQuery, Query()]) -> ExperimentPage:
    """List experiments, newest first unless `sort` says otherwise, `limit` at a time.

    Follow `next_cursor` for more: a page stays right while experiments are added.
    """
    wanted = Filter(
        status=query.status,
        activation=list(query.activation),
        depth=list(query.depth),
        dataset=list(query.dataset),
        sweep_id=str(query.sweep_id) if query.sweep_id else None,
        tag=list(query.tag),
    )
    with ports.database.read() as session:
        page = listing.page(session, wanted, sort=query.sort, cursor=query.cursor, limit=query.limit)
    return ExperimentPage(data=[_answer(one) for one in page.experiments], next_cursor=page.next_cursor)


@router.get(
    "/{experiment_id}", summary="Read an experiment", responses=responses(404), dependencies=[needs(Scope.READ)]
)
def read(ports: PortsOf, experiment_id: ExperimentId) -> ExperimentAnswer:
    """Its spec with all defaults, its status and progress, and what it gave."""
    with ports.database.read() as session:
        return _answer(experiments.get(session, experiment_id))


@router.get(
    "/{experiment_id}/metrics",
    summary="Read an experiment's metrics",
    response_model=Metrics,
    responses=responses(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    dependencies=[needs(Scope.READ), Depends(refuse_repeats)],
)
def metrics(
    ports: PortsOf, request: Request, experiment_id: ExperimentId, query: Annotated[MetricsQuery, Query()]
) -> Metrics | Response:
    """Every epoch so far, also while training runs: loss, accuracy, time, the gradient's norm at each layer with what
    that means, and how the units of each hidden layer answer.

    With `Accept: text/csv` the epochs come as CSV. `after_epoch=N` gives only what is new since epoch N.
    """
    with ports.database.read() as session:
        found = experiments.metrics(session, experiment_id, after_epoch=query.after_epoch)
    return _csv(found) if prefers_csv(request) else found


@router.post(
    "/{experiment_id}/cancel",
    status_code=202,
    summary="Cancel an experiment",
    responses=responses(404, 409),
    dependencies=[needs(Scope.WRITE)],
)
def cancel(ports: PortsOf, actor: ActorOf, response: Response, experiment_id: ExperimentId) -> ExperimentAnswer:
    """A queued experiment is cancelled at once. A running one is `cancelling` until its trainer has really stopped.
    What it measured so far stays readable. Asking again is no error.
    """
    with ports.database.write() as session:
        before = experiments.get(session, experiment_id).status
        cancelled = experiments.cancel(session, experiment_id)
        if before not in {Status.CANCELLING, Status.CANCELLED}:
            trail.record(session, actor, "experiment.cancel", experiment_id)
    return _accepted(response, _answer(cancelled))


@router.post(
    "/{experiment_id}/retry",
    status_code=202,
    summary="Repeat an experiment",
    responses=responses(404, 409, 429),
    dependencies=[needs(Scope.WRITE)],
)
def retry(
    ports: PortsOf, actor: ActorOf, trace_context: TraceContext, response: Response, experiment_id: ExperimentId
) -> ExperimentAnswer:
    """Queue a new experiment with the same spec, in the same sweep. Its `retry_of` names this one, which has ended."""
    with ports.database.write() as session:
        spec = experiments.get(session, experiment_id).spec
        require_affordable(spec, most=ports.settings.max_training_cost)
        admit(session, actor.key_id, ports.settings, count=1, cost=spec.training_cost)
        repeated = experiments.retry(
            session,
            experiment_id,
            created_by=actor.key_id,
            trace_context=trace_context,
            max_queued=ports.settings.max_queued,
        )
        trail.record(session, actor, "experiment.retry", repeated.id, retry_of=experiment_id)
    return _accepted(response, _answer(repeated))


@router.delete(
    "/{experiment_id}",
    status_code=204,
    summary="Delete an experiment",
    responses=responses(404, 409),
    dependencies=[needs(Scope.WRITE)],
)
def delete(ports: PortsOf, actor: ActorOf, experiment_id: ExperimentId) -> None:
    """Delete an experiment that has ended, with its metrics and its model. One whose model has an alias is kept:
    move or delete the alias first.
    """
    with ports.database.write() as session:
        files = experiments.delete_finished(session, experiment_id)
        trail.record(session, actor, "experiment.delete", experiment_id)
    for sha256 in files:
        ports.blobs.discard(experiment_id, sha256)
    ports.predictor.forget(own_name(experiment_id))


def _answer(experiment: Experiment) -> ExperimentAnswer:
    path = f"{router.prefix}/{experiment.id}"
    links = Links(
        self=path,
        metrics=f"{path}/metrics",
        events=f"{path}/events",
        cancel=f"{path}/cancel",
        retry=f"{path}/retry",
        model=f"{path}/model" if experiment.model else None,
    )
    values = {name: getattr(experiment, name) for name in Experiment.model_fields}
    return ExperimentAnswer(**values, links=links)


def _accepted(response: Response, answer: ExperimentAnswer) -> ExperimentAnswer:
    response.headers["Location"] = answer.links.self
    response.headers["Retry-After"] = POLL_AFTER_SECONDS
    return answer


def _fingerprint(spec: Spec) -> str:
    canonical = orjson.dumps(spec.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"POST /experiments\n" + canonical).hexdigest()


def _csv(found: Metrics) -> Response:
    layers = max((len(epoch.gradient_norms) for epoch in found.epochs), default=0)
    columns = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    judged = ["gradient_ratio", "gradients"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*columns, *(f"gradient_norm_{layer}" for layer in range(1, layers + 1)), *judged])
    for epoch in found.epochs:
        writer.writerow([getattr(epoch, one) for one in columns] + [*epoch.gradient_norms]
                        + [getattr(epoch, one) for one in judged])  # fmt: skip
    return Response(text.getvalue(), media_type="text/csv")
