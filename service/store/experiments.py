"""Experiments as clients see them: create, read, list, cancel, delete."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import uuid_utils
from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from service.domain.experiment import (
    EpochMetrics,
    Experiment,
    Failure,
    Metrics,
    Model,
    ModelFile,
    Progress,
    Result,
    Spec,
    Status,
    TestMetrics,
)
from service.errors import (
    ExperimentAlreadyFinished,
    ExperimentHasAlias,
    ExperimentNotFinished,
    ExperimentNotFound,
    QueueFull,
)
from service.store.calls import call_workers
from service.store.tables import AliasRow, EpochRow, EventRow, ExperimentRow, SweepRow, TagRow, database_now
from service.store.transitions import move

__all__ = [
    "StoredEvent",
    "cancel",
    "create",
    "create_many",
    "delete_finished",
    "events_after",
    "get",
    "last_events",
    "metrics",
    "require_room",
    "retry",
    "to_experiment",
    "to_metrics",
]


@dataclass(frozen=True)
class StoredEvent:
    """One event of an experiment's stream."""

    sequence: int
    type: str
    data: dict[str, Any]


def create(
    session: Session,
    spec: Spec,
    *,
    sweep_id: str | None = None,
    retry_of: str | None = None,
    created_by: str | None = None,
    trace_context: str | None = None,
    max_queued: int | None = None,
) -> Experiment:
    """Queue a new experiment. `created_by` is the id of the API key that asked for it, and `trace_context` the
    `traceparent` under which it shall be traced.

    Raises:
        QueueFull: `max_queued` wait already.
    """
    if max_queued is not None:
        require_room(session, 1, max_queued=max_queued)
    (experiment_id,) = create_many(
        session, [spec], sweep_id=sweep_id, retry_of=retry_of, created_by=created_by, trace_context=trace_context
    )
    return get(session, experiment_id)


def create_many(
    session: Session,
    specs: Iterable[Spec],
    *,
    sweep_id: str | None = None,
    retry_of: str | None = None,
    created_by: str | None = None,
    trace_context: str | None = None,
) -> list[str]:
    """Queue new experiments, all at one moment, in as many statements however many they are.

    Returns their ids. These ascend, so experiments of equal priority are taken in the order of `specs`.
    """
    now = session.scalar(select(database_now()))
    experiments: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for spec in specs:
        experiment_id = str(uuid_utils.uuid7())
        experiments.append(
            {
                "id": experiment_id,
                "status": Status.QUEUED.value,
                "spec": spec.model_dump(mode="json"),
                "activation": spec.activation,
                "depth": spec.depth,
                "dataset": spec.dataset,
                "queue_rank": -spec.priority,
                "stack_key": spec.stack_key,
                "sweep_id": sweep_id,
                "retry_of": retry_of,
                "created_by": created_by,
                "trace_context": trace_context,
                "last_event": 1,
                "created_at": now,
            }
        )
        tags += ({"experiment_id": experiment_id, "tag": tag, "created_at": now} for tag in set(spec.tags))
        first = {"status": Status.QUEUED.value, "attempt": 0}
        events.append(
            {"experiment_id": experiment_id, "sequence": 1, "type": "status", "data": first, "created_at": now}
        )
    for table, rows in ((ExperimentRow, experiments), (TagRow, tags), (EventRow, events)):
        if rows:
            session.execute(insert(table), rows)
    call_workers(session)
    return [row["id"] for row in experiments]


def require_room(session: Session, count: int, *, max_queued: int) -> None:
    """Refuse `count` more experiments where they would not all fit into the queue.

    On PostgreSQL, transactions at the same moment do not see each other: they may pass the limit by their number.
    Work that comes back to the queue is never refused.

    Raises:
        QueueFull: more than `max_queued` would wait.
    """
    queued = select(ExperimentRow.id).where(ExperimentRow.status == Status.QUEUED.value).limit(max_queued).subquery()
    waiting = session.scalar(select(func.count()).select_from(queued)) or 0
    if waiting + count > max_queued:
        raise QueueFull(
            f"{waiting:,} experiments wait already, and at most {max_queued:,} may: there is no room for "
            f"{count:,} more, try again later"
        )


def get(session: Session, experiment_id: str) -> Experiment:
    """Return one experiment.

    Raises:
        ExperimentNotFound: there is none with this id.
    """
    return to_experiment(_row(session, experiment_id))


def metrics(session: Session, experiment_id: str, *, after_epoch: int = 0) -> Metrics:
    """What was measured so far, with the epochs after `after_epoch` in order.

    Raises:
        ExperimentNotFound: there is none with this id.
    """
    experiment = _row(session, experiment_id)
    rows = session.scalars(
        select(EpochRow)
        .where(EpochRow.experiment_id == experiment_id, EpochRow.epoch > after_epoch)
        .order_by(EpochRow.epoch)
    )
    result = _result(experiment)
    return Metrics(
        experiment_id=experiment_id,
        status=Status(experiment.status),
        epochs=tuple(map(to_metrics, rows)),
        test=TestMetrics(loss=result.test_loss, accuracy=result.test_accuracy) if result else None,
        computation_seconds=experiment.computation_seconds,
    )


def events_after(session: Session, experiment_id: str, sequence: int, *, limit: int = 500) -> list[StoredEvent]:
    """The events with a larger sequence number, in order."""
    rows = session.execute(
        select(EventRow.sequence, EventRow.type, EventRow.data)
        .where(EventRow.experiment_id == experiment_id, EventRow.sequence > sequence)
        .order_by(EventRow.sequence)
        .limit(limit)
    )
    return [StoredEvent(*row) for row in rows]


def cancel(session: Session, experiment_id: str) -> Experiment:
    """Cancel: at once when queued; a running one becomes `cancelling` until its trainer has stopped.

    Asking again is no error.

    Raises:
        ExperimentNotFound: there is none with this id.
        ExperimentAlreadyFinished: it has succeeded or failed.
    """
    this = ExperimentRow.id == experiment_id
    # The two can only both miss when another transaction moved the row in between, so a second look settles it.
    for _ in range(2):
        for target in (Status.CANCELLED, Status.CANCELLING):
            source = Status.QUEUED if target is Status.CANCELLED else Status.RUNNING
            row = move(session, target, this, ExperimentRow.status == source.value)
            if row is not None:
                return to_experiment(row)
        session.expire_all()
        found = get(session, experiment_id)
        if found.status in {Status.CANCELLING, Status.CANCELLED}:
            return found
        if found.status.terminal:
            raise ExperimentAlreadyFinished(f"the experiment has {found.status} already: there is nothing to cancel")
    raise AssertionError("an experiment is queued or running, yet neither could be moved")


def retry(
    session: Session,
    experiment_id: str,
    *,
    created_by: str | None = None,
    trace_context: str | None = None,
    max_queued: int | None = None,
) -> Experiment:
    """Queue a new experiment with the same spec, in the same sweep.

    Raises:
        ExperimentNotFound: there is none with this id.
        ExperimentNotFinished: the first has not ended.
        QueueFull: `max_queued` wait already.
    """
    first = get(session, experiment_id)
    if not first.status.terminal:
        raise ExperimentNotFinished(f"the experiment is {first.status}: it can be repeated once it has ended")
    if first.sweep_id is not None:
        # Held, so that the sweep cannot be deleted meanwhile; and looked for again, should it just have been.
        session.execute(select(SweepRow.id).where(SweepRow.id == first.sweep_id).with_for_update(read=True))
        session.expire_all()
        first = get(session, experiment_id)
    return create(
        session,
        first.spec,
        sweep_id=first.sweep_id,
        retry_of=experiment_id,
        created_by=created_by,
        trace_context=trace_context,
        max_queued=max_queued,
    )


def last_events(session: Session, experiment_ids: Collection[str]) -> dict[str, int]:
    """The number of the last event of each of these that still exists."""
    rows = session.execute(
        select(ExperimentRow.id, ExperimentRow.last_event).where(ExperimentRow.id.in_(experiment_ids))
    )
    return dict(rows.all())


def delete_finished(session: Session, experiment_id: str) -> list[str]:
    """Delete an ended experiment with all its rows, and return the SHA-256 of its files, now garbage.

    Raises:
        ExperimentNotFound: there is none with this id.
        ExperimentNotFinished: it has not ended.
        ExperimentHasAlias: an alias points at its model.
    """
    row = session.scalar(select(ExperimentRow).where(ExperimentRow.id == experiment_id).with_for_update())
    if row is None:
        raise _not_found(experiment_id)
    if not Status(row.status).terminal:
        advice = "wait until it has ended" if row.status == Status.CANCELLING else "cancel it first"
        raise ExperimentNotFinished(f"the experiment is {row.status}: {advice}")
    aliases = session.scalars(
        select(AliasRow.name).where(AliasRow.experiment_id == experiment_id).order_by(AliasRow.name)
    ).all()
    if aliases:
        names = ", ".join(aliases)
        raise ExperimentHasAlias(f"its model has the alias {names}: move or delete that first")
    files = [row.keras_sha256, row.onnx_sha256, row.checkpoint_sha256]
    session.execute(delete(ExperimentRow).where(ExperimentRow.id == experiment_id))
    return [sha256 for sha256 in files if sha256 is not None]


def to_experiment(row: ExperimentRow) -> Experiment:
    """The domain's value of a row."""
    spec = Spec.model_validate(row.spec)
    return Experiment(
        id=row.id,
        status=Status(row.status),
        spec=spec,
        progress=Progress(epoch=row.epoch, epochs=spec.epochs),
        result=_result(row),
        model=_model(row),
        error=Failure(code=row.error_code, message=row.error_message or "") if row.error_code else None,
        attempt=row.attempt,
        sweep_id=row.sweep_id,
        retry_of=row.retry_of,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def to_metrics(row: EpochRow) -> EpochMetrics:
    """The domain's value of an epoch's row."""
    return EpochMetrics(**{name: getattr(row, name) for name in EpochMetrics.model_fields})


def _result(row: ExperimentRow) -> Result | None:
    if row.test_loss is None or row.test_accuracy is None:
        return None
    return Result(
        test_loss=row.test_loss,
        test_accuracy=row.test_accuracy,
        computation_seconds=row.computation_seconds,
    )


def _model(row: ExperimentRow) -> Model | None:
    if row.weights_sha256 is None:
        return None
    return Model(
        weights_sha256=row.weights_sha256,
        parameters=row.parameters,
        formats={
            "keras": ModelFile(sha256=row.keras_sha256, bytes=row.keras_bytes),
            "onnx": ModelFile(sha256=row.onnx_sha256, bytes=row.onnx_bytes),
        },
    )


def _row(session: Session, experiment_id: str) -> ExperimentRow:
    row = session.get(ExperimentRow, experiment_id)
    if row is None:
        raise _not_found(experiment_id)
    return row


def _not_found(experiment_id: str) -> ExperimentNotFound:
    return ExperimentNotFound(f"there is no experiment {experiment_id}: GET /experiments lists them")
