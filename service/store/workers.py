"""The workers, by their heartbeats. Nothing depends on this table: leases alone decide who owns what."""

from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from service.domain.worker import Worker, WorkerStatus
from service.store.queue import OWNED
from service.store.session import insert_if_absent
from service.store.tables import ExperimentRow, WorkerRow, database_now

__all__ = ["beat", "every", "leave"]

FORGOTTEN_SECONDS = 24 * 3600.0
TROUBLE_LENGTH = 1000


def beat(session: Session, worker_id: str, *, lease_seconds: float, trouble: str | None, **values: Any) -> None:  # noqa: ANN401 - columns
    """Say that a worker lives, and what it is. Forgets those that were lost a day ago."""
    found = values | {
        "trouble": trouble and trouble[:TROUBLE_LENGTH],
        "heartbeat_at": database_now(),
        "expires_at": database_now(lease_seconds),
    }
    this = update(WorkerRow).where(WorkerRow.id == worker_id).values(found).returning(WorkerRow.id)
    if session.execute(this).first() is None:
        insert_if_absent(session, WorkerRow, id=worker_id, started_at=database_now(), **found)
    session.execute(delete(WorkerRow).where(WorkerRow.expires_at < database_now(-FORGOTTEN_SECONDS)))


def leave(session: Session, worker_id: str) -> None:
    """A worker has given everything back and ends."""
    session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))


def every(session: Session) -> list[Worker]:
    """Every worker that is known, the one that has been there for longest first."""
    owners = (
        select(ExperimentRow.owner, func.count()).where(ExperimentRow.status.in_(OWNED)).group_by(ExperimentRow.owner)
    )
    claimed = dict(session.execute(owners).all())
    rows = session.execute(
        select(WorkerRow, (WorkerRow.expires_at < database_now()).label("lost")).order_by(
            WorkerRow.started_at, WorkerRow.id
        )
    )
    return [_worker(row, lost=lost, running=claimed.get(row.id, 0)) for row, lost in rows]


def _worker(row: WorkerRow, *, lost: bool, running: int) -> Worker:
    status: WorkerStatus = "lost" if lost else "draining" if row.draining else "active"
    return Worker(
        id=row.id,
        host=row.host,
        process=row.process,
        engine=row.engine,
        slots=row.slots,
        running=running,
        status=status,
        trouble=row.trouble,
        version=row.version,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
    )
