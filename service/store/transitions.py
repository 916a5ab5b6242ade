"""Every change of an experiment's status, with the event that tells of it. `TRANSITIONS` decides what may follow."""

from typing import Any

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.store.tables import EventRow, ExperimentRow, database_now

__all__ = ["append_event", "move", "update_returning"]

RELEASED = {"owner": None, "lease_expires_at": None}


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
    if target.terminal:
        values |= {"finished_at": database_now()}
    if target not in {Status.RUNNING, Status.CANCELLING}:
        values |= RELEASED
    row = update_returning(
        session, ExperimentRow.status.in_(Status.sources(target)), *where, status=target.value, **values
    )
    if row is None:
        return None
    status = {"status": target.value, "attempt": row.attempt}
    append_event(session, row, "status", status | ({"reason": reason} if reason else {}))
    if target.terminal:
        append_event(session, row, "done", _outcome(row))
    return row


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
