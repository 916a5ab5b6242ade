"""Every change of an experiment's status, with the event that tells of it. `TRANSITIONS` decides what may follow."""

from typing import Any

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.store.calls import call_workers
from service.store.tables import EventRow, ExperimentRow, database_now

__all__ = ["append_event", "move", "move_all", "update_returning"]

RELEASED = {"owner": None, "lease_expires_at": None}
CALLED = {Status.QUEUED, Status.CANCELLING}
"""What a worker shall hear of at once."""


def move(
    session: Session,
    target: Status,
    *where: ColumnElement[bool],
    reason: str | None = None,
    **values: Any,  # noqa: ANN401 - columns
) -> ExperimentRow | None:
    """Move the one experiment that matches `where` to `target`, if its status may be left for that.

    Returns the new row, or None when nothing matched: the caller lost a race and must look again.
    """
    values |= _consequences(target)
    row = update_returning(
        session, ExperimentRow.status.in_(Status.sources(target)), *where, status=target.value, **values
    )
    if row is None:
        return None
    for kind, data in _told(row, reason):
        append_event(session, row, kind, data)
    if target in CALLED:
        call_workers(session)
    return row


def move_all(session: Session, target: Status, *where: ColumnElement[bool]) -> int:
    """Move every experiment that matches `where` to `target`, if its status may be left for that, in two statements
    however many they are. Returns how many moved.
    """
    events = 2 if target.terminal else 1
    statement = (
        update(ExperimentRow)
        .where(ExperimentRow.status.in_(Status.sources(target)), *where)
        .values(status=target.value, last_event=ExperimentRow.last_event + events, **_consequences(target))
        .returning(ExperimentRow)
        .execution_options(populate_existing=True, synchronize_session=False)
    )
    rows = session.scalars(statement).all()
    if rows and target in CALLED:
        call_workers(session)
    if rows:
        now = session.scalar(select(database_now()))
        session.execute(
            insert(EventRow),
            [
                {"experiment_id": row.id, "sequence": sequence, "type": kind, "data": data, "created_at": now}
                for row in rows
                for sequence, (kind, data) in enumerate(_told(row), row.last_event - events + 1)
            ],
        )
    return len(rows)


def update_returning(
    session: Session,
    *where: ColumnElement[bool],
    **values: Any,  # noqa: ANN401 - columns
) -> ExperimentRow | None:
    """Update at most one experiment and return its new row. Locks the row until the transaction ends."""
    statement = (
        update(ExperimentRow)
        .where(*where)
        .values(**values)
        .returning(ExperimentRow)
        .execution_options(populate_existing=True, synchronize_session=False)
    )
    return session.execute(statement).scalar_one_or_none()


def append_event(session: Session, row: ExperimentRow, kind: str, data: dict[str, Any]) -> None:
    """Append to the experiment's event stream. The caller has updated the row, so it holds its lock."""
    row.last_event += 1
    session.add(
        EventRow(experiment_id=row.id, sequence=row.last_event, type=kind, data=data, created_at=database_now())
    )
    session.flush()


def _consequences(target: Status) -> dict[str, Any]:
    """What else changes with the status."""
    ended = {"finished_at": database_now()} if target.terminal else {}
    return ended | ({} if target in {Status.RUNNING, Status.CANCELLING} else RELEASED)


def _told(row: ExperimentRow, reason: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The events that tell of the status that a row has now."""
    status = {"status": row.status, "attempt": row.attempt}
    told = [("status", status | ({"reason": reason} if reason else {}))]
    return [*told, ("done", _outcome(row))] if Status(row.status).terminal else told


def _outcome(row: ExperimentRow) -> dict[str, Any]:
    result = None
    if row.status == Status.SUCCEEDED:
        result = {
            "test_loss": row.test_loss,
            "test_accuracy": row.test_accuracy,
            "computation_seconds": row.computation_seconds,
        }
    error = {"code": row.error_code, "message": row.error_message} if row.error_code else None
    return {"status": row.status, "result": result, "error": error}
