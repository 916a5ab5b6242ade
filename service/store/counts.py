"""How many experiments there are, for whoever watches the service."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.store.tables import ExperimentRow, database_now

__all__ = ["ended", "oldest_queued", "unfinished"]


def unfinished(session: Session) -> Mapping[Status, int]:
    """How many wait, run and are being cancelled. Reads no more than these."""
    return {status: _count(session, status) for status in Status if not status.terminal}


def ended(session: Session) -> Mapping[Status, int]:
    """How many have ended, and how. Reads an entry of an index for each of them."""
    return {status: _count(session, status) for status in Status if status.terminal}


def oldest_queued(session: Session) -> timedelta:
    """How long ago the oldest experiment that waits was queued first; nothing when none waits."""
    oldest = (
        select(ExperimentRow.created_at)
        .where(ExperimentRow.status == Status.QUEUED.value)
        .order_by(ExperimentRow.created_at)
        .limit(1)
    )
    since = session.scalar(oldest)
    now = session.scalar(select(database_now()))
    return timedelta(0) if since is None or now is None else max(now - since, timedelta(0))


def _count(session: Session, status: Status) -> int:
    return session.scalar(select(func.count()).where(ExperimentRow.status == status.value)) or 0
