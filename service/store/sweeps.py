"""Sweeps: create many experiments at once, follow them, cancel and delete them together."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import uuid_utils
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.domain.experiment import EpochMetrics, Experiment, Status
from service.domain.sweep import Sweep, SweepProgress, SweepSpec, SweepStatus
from service.errors import (
    ExperimentHasAlias,
    InvalidCursor,
    SweepAlreadyFinished,
    SweepNotFinished,
    SweepNotFound,
)
from service.store import experiments
from service.store.tables import AliasRow, EpochRow, ExperimentRow, SweepRow, database_now
from service.store.transitions import move_all

__all__ = ["SweepPage", "cancel", "create", "delete_finished", "epochs", "get", "members", "page"]

ALIASES_TOLD = 5


@dataclass(frozen=True)
class SweepPage:
    """Some sweeps, and the cursor of those that follow."""

    sweeps: list[Sweep]
    next_cursor: str | None


def create(
    session: Session,
    spec: SweepSpec,
    *,
    created_by: str | None = None,
    trace_context: str | None = None,
    max_queued: int | None = None,
) -> Sweep:
    """Queue every experiment of a sweep, in the caller's transaction: all of them or none. `created_by` is the id of
    the API key that asked for it.

    Raises:
        QueueFull: not all of them would fit among `max_queued` that wait.
    """
    if max_queued is not None:
        experiments.require_room(session, spec.size, max_queued=max_queued)
    row = SweepRow(
        id=str(uuid_utils.uuid7()),
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        size=spec.size,
        created_at=session.scalar(select(database_now())),
    )
    session.add(row)
    session.flush()
    experiments.create_many(session, spec.specs(), sweep_id=row.id, created_by=created_by, trace_context=trace_context)
    return get(session, row.id)


def get(session: Session, sweep_id: str) -> Sweep:
    """Return one sweep.

    Raises:
        SweepNotFound: there is none with this id.
    """
    (sweep,) = _sweeps(session, [_row(session, sweep_id)])
    return sweep


def members(session: Session, sweep_id: str) -> list[Experiment]:
    """Every experiment of a sweep, in the order of the queue."""
    rows = session.scalars(select(ExperimentRow).where(ExperimentRow.sweep_id == sweep_id).order_by(ExperimentRow.id))
    return [experiments.to_experiment(row) for row in rows]


def epochs(session: Session, sweep_id: str) -> dict[str, tuple[EpochMetrics, ...]]:
    """What was measured of every experiment of a sweep so far, by its id, in one statement."""
    rows = session.scalars(
        select(EpochRow)
        .join(ExperimentRow, EpochRow.experiment_id == ExperimentRow.id)
        .where(ExperimentRow.sweep_id == sweep_id)
        .order_by(EpochRow.experiment_id, EpochRow.epoch)
    )
    found: dict[str, list[EpochMetrics]] = {}
    for row in rows:
        found.setdefault(row.experiment_id, []).append(experiments.to_metrics(row))
    return {experiment_id: tuple(of_one) for experiment_id, of_one in found.items()}


def page(session: Session, *, cursor: str | None, limit: int) -> SweepPage:
    """List sweeps, newest first, `limit` at a time. Ids ascend with time, so the last one is the place to go on from.

    Raises:
        InvalidCursor: the cursor was not made here.
    """
    statement = select(SweepRow).order_by(SweepRow.id.desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(SweepRow.id < _decode(cursor))
    rows = session.scalars(statement).all()
    more = len(rows) > limit
    return SweepPage(_sweeps(session, rows[:limit]), rows[limit - 1].id if more else None)


def cancel(session: Session, sweep_id: str) -> Sweep:
    """Cancel what has not ended: the queued at once; the running become `cancelling` until their trainers have stopped.

    Asking again is no error.

    Raises:
        SweepNotFound: there is none with this id.
        SweepAlreadyFinished: every experiment has ended, none of them by a cancel.
    """
    _row(session, sweep_id)
    this = ExperimentRow.sweep_id == sweep_id
    unfinished = ExperimentRow.status.in_([Status.QUEUED.value, Status.RUNNING.value])
    # Locked before they are moved: a claim or a requeue between the two moves would slip through both of them. In the
    # order of their ids, so that two who lock many do not wait for each other.
    session.execute(select(ExperimentRow.id).where(this, unfinished).order_by(ExperimentRow.id).with_for_update())
    moved = move_all(session, Status.CANCELLED, this, ExperimentRow.status == Status.QUEUED.value)
    moved += move_all(session, Status.CANCELLING, this)
    sweep = get(session, sweep_id)
    if not moved and sweep.status is SweepStatus.FINISHED and not sweep.progress.cancelled:
        raise SweepAlreadyFinished("every experiment of the sweep has ended already: there is nothing to cancel")
    return sweep


def delete_finished(session: Session, sweep_id: str) -> list[tuple[str, str]]:
    """Delete an ended sweep with its experiments and all their rows. Returns its files, now garbage, each as
    (experiment id, SHA-256).

    Raises:
        SweepNotFound: there is none with this id.
        SweepNotFinished: some experiments have not ended.
        ExperimentHasAlias: an alias points at a model of it.
    """
    _row(session, sweep_id, lock=True)
    this = ExperimentRow.sweep_id == sweep_id
    rows = session.execute(
        select(
            ExperimentRow.id,
            ExperimentRow.status,
            ExperimentRow.keras_sha256,
            ExperimentRow.onnx_sha256,
            ExperimentRow.checkpoint_sha256,
        )
        .where(this)
        .order_by(ExperimentRow.id)
        .with_for_update()
    ).all()
    going = sum(not Status(row.status).terminal for row in rows)
    if going:
        some = "experiment has" if len(rows) == 1 else f"{len(rows):,} experiments {'has' if going == 1 else 'have'}"
        raise SweepNotFinished(f"{going:,} of its {some} not ended: cancel the sweep, and wait")
    _refuse_aliases(session, sweep_id)
    session.execute(delete(ExperimentRow).where(this).execution_options(synchronize_session=False))
    session.execute(delete(SweepRow).where(SweepRow.id == sweep_id))
    return [(identity, sha256) for identity, _, *files in rows for sha256 in files if sha256 is not None]


def _refuse_aliases(session: Session, sweep_id: str) -> None:
    found = session.scalars(
        select(AliasRow.name)
        .join(ExperimentRow, AliasRow.experiment_id == ExperimentRow.id)
        .where(ExperimentRow.sweep_id == sweep_id)
        .order_by(AliasRow.name)
    ).all()
    if found:
        names = ", ".join(found[:ALIASES_TOLD]) + (" and more" if len(found) > ALIASES_TOLD else "")
        raise ExperimentHasAlias(f"models of the sweep have the aliases {names}: move or delete those first")


def _sweeps(session: Session, rows: Collection[SweepRow]) -> list[Sweep]:
    """The domain's values of rows, with the progress of all of them counted at once."""
    counts: dict[str, dict[Status, int]] = {row.id: {} for row in rows}
    finished: dict[str, datetime | None] = {}
    counted = session.execute(
        select(ExperimentRow.sweep_id, ExperimentRow.status, func.count(), func.max(ExperimentRow.finished_at))
        .where(ExperimentRow.sweep_id.in_(counts))
        .group_by(ExperimentRow.sweep_id, ExperimentRow.status)
    )
    for sweep_id, status, count, last in counted:
        assert sweep_id is not None  # noqa: S101 - it is one of those that were asked for
        counts[sweep_id][Status(status)] = count
        finished[sweep_id] = max(filter(None, (finished.get(sweep_id), last)), default=None)
    return [_sweep(row, SweepProgress.of(counts[row.id]), finished.get(row.id)) for row in rows]


def _sweep(row: SweepRow, progress: SweepProgress, last: datetime | None) -> Sweep:
    return Sweep(
        id=row.id,
        name=row.name,
        status=progress.status,
        spec=SweepSpec.model_validate(row.spec),
        size=row.size,
        progress=progress,
        created_at=row.created_at,
        finished_at=last if progress.status is SweepStatus.FINISHED else None,
    )


def _row(session: Session, sweep_id: str, *, lock: bool = False) -> SweepRow:
    statement = select(SweepRow).where(SweepRow.id == sweep_id)
    row = session.scalar(statement.with_for_update() if lock else statement)
    if row is None:
        raise SweepNotFound(f"there is no sweep {sweep_id}: GET /sweeps lists them")
    return row


def _decode(cursor: str) -> str:
    try:
        return str(UUID(cursor))
    except ValueError:
        raise InvalidCursor("the cursor is not one that this list gave: begin again without it", "/cursor") from None
