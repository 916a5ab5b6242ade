"""/sweeps: a grid of experiments, queued, read, cancelled and deleted together."""

import hashlib
from typing import Annotated, Any, cast
from uuid import UUID

import orjson
from fastapi import APIRouter, Body, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import PortsOf, TraceContext, refuse_repeats
from service.api.experiments import POLL_AFTER_SECONDS, IdempotencyKey
from service.api.problems import responses
from service.api.quotas import admit
from service.api.security import ActorOf, needs
from service.domain.access import Scope
from service.domain.cost import require_affordable_sweep, sweep_cost
from service.domain.sweep import Arm, Sweep, SweepSpec
from service.errors import SweepNotFound
from service.serving.predictor import own_name
from service.settings import Settings
from service.store import idempotency, sweeps, trail

__all__ = ["SweepId", "router"]

router = APIRouter(prefix="/sweeps", tags=["sweeps"])

EXAMPLES = {
    "article": {
        "summary": "The article's question: 60 experiments",
        "value": {"grid": {"activation": ["sigmoid", "relu"], "depth": [1, 2, 3]}, "seeds": 10, "name": "article"},
    },
    "ranges": {
        "summary": "Depths by a range, learning rates by equal ratios",
        "value": {
            "base": {"activation": "tanh", "epochs": 5, "tags": ["rates"]},
            "grid": {
                "depth": {"start": 1, "stop": 9, "step": 2},
                "learning_rate": {"start": 0.0001, "stop": 0.1, "count": 4, "scale": "log"},
                "seed": [1, 2, 3],
            },
        },
    },
}


async def _sweep_id(sweep_id: Annotated[str, Path(description="A sweep's id, as `POST /sweeps` gave it.")]) -> str:
    try:
        return str(UUID(sweep_id))
    except ValueError:
        raise SweepNotFound("there is no such sweep: GET /sweeps lists them") from None


SweepId = Annotated[str, Depends(_sweep_id)]


class SweepLinks(BaseModel):
    """Paths of what belongs to a sweep."""

    self: str
    experiments: str
    comparison: str
    cancel: str


class SweepAnswer(Sweep):
    """A sweep and where to go from it."""

    links: SweepLinks


class SweepList(BaseModel):
    """Some sweeps."""

    data: list[SweepAnswer]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class SweepPlan(BaseModel):
    """What a sweep would be."""

    experiments: int = Field(description="How many there would be.")
    arms: list[Arm] = Field(description="What would be compared, in the order of the queue.")
    seeds: int = Field(description="Experiments in each arm.")
    parameters: int = Field(description="Trainable parameters of the largest network.")
    training_cost: int = Field(description="What all of it would cost, in parameter-steps.")


class CreateQuery(BaseModel):
    """How to take a sweep."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(default=False, description="Check and count only: the answer is 200, and nothing is queued.")


class SweepQuery(BaseModel):
    """Which sweeps to list."""

    model_config = ConfigDict(extra="forbid")

    cursor: Annotated[str, Field(max_length=500, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=200)


@router.post(
    "",
    status_code=202,
    summary="Queue a sweep",
    response_model=SweepAnswer,
    responses=responses(409, 413, 415, 429)
    | {200: {"description": "Of a dry run: what would be queued.", "model": SweepPlan}},
    response_description="All of it is queued; its `Location` tells how it goes.",
    dependencies=[needs(Scope.WRITE), Depends(refuse_repeats)],
)
def create(
    ports: PortsOf,
    actor: ActorOf,
    trace_context: TraceContext,
    response: Response,
    query: Annotated[CreateQuery, Query()],
    spec: Annotated[SweepSpec, Body(openapi_examples=cast("Any", EXAMPLES))],
    idempotency_key: IdempotencyKey = None,
) -> SweepAnswer | Response:
    """Queue an experiment for every combination of the grid's values, over the base: all of them or none.

    The grid's values are lists, or ranges of numbers. `seeds: 10` is short for the seeds 0 to 9. Experiments that
    differ only by their seeds stand together in the queue, and are one arm of the comparison. Everything is checked
    before anything is queued; `dry_run` stops there.
    """
    _require_within(spec, ports.settings)
    if query.dry_run:
        return JSONResponse(_plan(spec).model_dump(mode="json"))
    most = ports.settings.max_queued
    with ports.database.write() as session:

        def act() -> dict[str, Any]:
            admit(session, actor.key_id, ports.settings, count=spec.size, cost=sweep_cost(spec))
            made = sweeps.create(session, spec, created_by=actor.key_id, trace_context=trace_context, max_queued=most)
            trail.record(session, actor, "sweep.create", made.id, experiments=spec.size)
            return _answer(made).model_dump(mode="json")

        stored = idempotency.once(
            session,
            idempotency.key_of(actor, idempotency_key),
            fingerprint=_fingerprint(spec),
            keep_hours=ports.settings.idempotency_hours,
            act=act,
        )
    return _accepted(response, SweepAnswer.model_validate(stored))


@router.get("", summary="List sweeps", responses=responses(), dependencies=[needs(Scope.READ), Depends(refuse_repeats)])
def list_(ports: PortsOf, query: Annotated[SweepQuery, Query()]) -> SweepList:
    """List sweeps, newest first, `limit` at a time.

    Follow `next_cursor` for more: a page stays right while sweeps are added.
    """
    with ports.database.read() as session:
        page = sweeps.page(session, cursor=query.cursor, limit=query.limit)
    return SweepList(data=[_answer(one) for one in page.sweeps], next_cursor=page.next_cursor)


@router.get("/{sweep_id}", summary="Read a sweep", responses=responses(404), dependencies=[needs(Scope.READ)])
def read(ports: PortsOf, sweep_id: SweepId) -> SweepAnswer:
    """What was asked for, and how many of its experiments are queued, running or done.

    `GET /experiments?sweep_id=` lists them.
    """
    with ports.database.read() as session:
        return _answer(sweeps.get(session, sweep_id))


@router.post(
    "/{sweep_id}/cancel",
    status_code=202,
    summary="Cancel a sweep",
    responses=responses(404, 409),
    dependencies=[needs(Scope.WRITE)],
)
def cancel(ports: PortsOf, actor: ActorOf, response: Response, sweep_id: SweepId) -> SweepAnswer:
    """Its queued experiments are cancelled at once. Its running ones are `cancelling` until their trainers have really
    stopped. What they measured so far stays readable. Asking again is no error.
    """
    with ports.database.write() as session:
        cancelled = sweeps.cancel(session, sweep_id)
        trail.record(session, actor, "sweep.cancel", sweep_id)
    return _accepted(response, _answer(cancelled))


@router.delete(
    "/{sweep_id}",
    status_code=204,
    summary="Delete a sweep",
    responses=responses(404, 409),
    dependencies=[needs(Scope.WRITE)],
)
def delete(ports: PortsOf, actor: ActorOf, sweep_id: SweepId) -> None:
    """Delete a sweep whose experiments have all ended, with them, their metrics and their models. One with a model
    that has an alias is kept: move or delete the alias first.
    """
    with ports.database.write() as session:
        files = sweeps.delete_finished(session, sweep_id)
        trail.record(session, actor, "sweep.delete", sweep_id)
    for experiment_id, sha256 in files:
        ports.blobs.discard(experiment_id, sha256)
        ports.predictor.forget(own_name(experiment_id))


def _require_within(spec: SweepSpec, settings: Settings) -> None:
    # A sweep that is larger than the queue would be told to try again later, for ever.
    most = min(settings.max_sweep, settings.max_queued)
    spec.require_within(experiments=most, parameters=settings.max_parameters)
    require_affordable_sweep(spec, most=settings.max_sweep_cost, most_each=settings.max_training_cost)


def _plan(spec: SweepSpec) -> SweepPlan:
    return SweepPlan(
        experiments=spec.size,
        arms=spec.arms(),
        seeds=spec.repeats,
        parameters=spec.largest().parameters,
        training_cost=sweep_cost(spec),
    )


def _answer(sweep: Sweep) -> SweepAnswer:
    path = f"{router.prefix}/{sweep.id}"
    links = SweepLinks(
        self=path,
        experiments=f"/experiments?sweep_id={sweep.id}",
        comparison=f"{path}/comparison",
        cancel=f"{path}/cancel",
    )
    values = {name: getattr(sweep, name) for name in Sweep.model_fields}
    return SweepAnswer(**values, links=links)


def _accepted(response: Response, answer: SweepAnswer) -> SweepAnswer:
    response.headers["Location"] = answer.links.self
    response.headers["Retry-After"] = POLL_AFTER_SECONDS
    return answer


def _fingerprint(spec: SweepSpec) -> str:
    canonical = orjson.dumps(spec.canonical(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"POST /sweeps\n" + canonical).hexdigest()
