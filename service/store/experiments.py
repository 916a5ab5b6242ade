"""Experiments as clients see them: create, read, list, cancel, delete."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson
import uuid_utils
from sqlalchemy import ColumnElement, delete, func, insert, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

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
    InvalidCursor,
    QueueFull,
)
from service.store.tables import AliasRow, EpochRow, EventRow, ExperimentRow, SweepRow, TagRow, database_now
from service.store.transitions import move

__all__ = [
    "Filter",
    "Page",
    "Sort",
    "StoredEvent",
    "cancel",
    "create",
    "create_many",
    "delete_finished",
    "events_after",
    "get",
    "metrics",
    "page",
    "require_room",
    "retry",
    "to_experiment",
    "to_metrics",
]

Sort = Literal["created_at", "-created_at", "test_accuracy", "-test_accuracy"]


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which experiments to list. Values of one field are alternatives; fields narrow each other."""

    status: list[Status] = field(default_factory=list)
    activation: list[str] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    dataset: list[str] = field(default_factory=list)
    sweep_id: str | None = None
    tag: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Some experiments, and the cursor of those that follow."""

    experiments: list[Experiment]
    next_cursor: str | None


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
    max_queued: int | None = None,
) -> Experiment:
    """Queue a new experiment.

    Raises:
        QueueFull: `max_queued` wait already.
    """
    if max_queued is not None:
        require_room(session, 1, max_queued=max_queued)
    (experiment_id,) = create_many(session, [spec], sweep_id=sweep_id, retry_of=retry_of)
    return get(session, experiment_id)


def create_many(
    session: Session, specs: Iterable[Spec], *, sweep_id: str | None = None, retry_of: str | None = None
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
                "last_event": 1,
                "created_at": now,
            }
        )
        tags += ({"experiment_id": experiment_id, "tag": tag} for tag in set(spec.tags))
        first = {"status": Status.QUEUED.value, "attempt": 0}
        events.append(
            {"experiment_id": experiment_id, "sequence": 1, "type": "status", "data": first, "created_at": now}
        )
    for table, rows in ((ExperimentRow, experiments), (TagRow, tags), (EventRow, events)):
        if rows:
            session.execute(insert(table), rows)
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


def page(session: Session, wanted: Filter, *, sort: Sort, cursor: str | None, limit: int) -> Page:
    """List experiments, `limit` at a time. A page stays right while experiments are added: it goes on from a
    place in the order (keyset), not from a number of rows.

    Raises:
        InvalidCursor: the cursor was not made here for this sort order.
    """
    column, descending = _sort_column(sort), sort.startswith("-")
    statement = select(ExperimentRow).where(*_conditions(wanted))
    if cursor is not None:
        statement = statement.where(_after(column, descending, *_decode(cursor, sort)))
    key = column.desc().nulls_last() if descending else column.asc().nulls_last()
    tie = ExperimentRow.id.desc() if descending else ExperimentRow.id.asc()
    rows = session.scalars(statement.order_by(key, tie).limit(limit + 1)).all()
    more = len(rows) > limit
    return Page(
        [to_experiment(row) for row in rows[:limit]],
        _encode(sort, getattr(rows[limit - 1], column.key), rows[limit - 1].id) if more else None,
    )


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


def retry(session: Session, experiment_id: str, *, max_queued: int | None = None) -> Experiment:
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
    return create(session, first.spec, sweep_id=first.sweep_id, retry_of=experiment_id, max_queued=max_queued)


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


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for column, values in (
        (ExperimentRow.status, [status.value for status in wanted.status]),
        (ExperimentRow.activation, wanted.activation),
        (ExperimentRow.depth, wanted.depth),
        (ExperimentRow.dataset, wanted.dataset),
    ):
        if values:
            conditions.append(column.in_(values))
    if wanted.sweep_id is not None:
        conditions.append(ExperimentRow.sweep_id == wanted.sweep_id)
    if wanted.tag:
        tagged = (
            select(TagRow.experiment_id)
            .where(TagRow.tag.in_(wanted.tag))
            .group_by(TagRow.experiment_id)
            .having(func.count() == len(set(wanted.tag)))
        )
        conditions.append(ExperimentRow.id.in_(tagged))
    return conditions


def _sort_column(sort: Sort) -> InstrumentedAttribute[Any]:
    return ExperimentRow.created_at if sort.endswith("created_at") else ExperimentRow.test_accuracy


def _after(
    column: InstrumentedAttribute[Any],
    descending: bool,
    value: datetime | float | None,
    experiment_id: str,
) -> ColumnElement[bool]:
    """What comes behind (value, id) in the order; rows without a value come last."""
    identity = ExperimentRow.id
    beyond = identity < experiment_id if descending else identity > experiment_id
    if value is None:
        return column.is_(None) & beyond
    here = tuple_(column, identity)
    place = tuple_(value, experiment_id)
    ahead = here < place if descending else here > place
    return ahead if column is ExperimentRow.created_at else or_(ahead, column.is_(None))


def _encode(sort: Sort, value: datetime | float | None, experiment_id: str) -> str:
    plain = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(orjson.dumps([sort, plain, experiment_id])).decode().rstrip("=")


def _decode(cursor: str, sort: Sort) -> tuple[datetime | float | None, str]:
    wrong = InvalidCursor("the cursor is not one that this list gave: begin again without it", "/cursor")
    try:
        made_for, value, experiment_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if sort.endswith("created_at"):
            value = datetime.fromisoformat(value)
            if value.tzinfo is None:
                raise wrong
        elif value is not None and not isinstance(value, float):
            raise wrong
    except (ValueError, TypeError, binascii.Error):
        raise wrong from None
    if made_for != sort or not isinstance(experiment_id, str) or "\0" in experiment_id:
        raise wrong
    return value, experiment_id
