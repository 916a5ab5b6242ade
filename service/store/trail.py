"""The audit trail: who did what, written in the transaction of the act."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import uuid_utils
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.domain.access import Actor
from service.errors import InvalidCursor
from service.store.session import Database
from service.store.tables import AuditRow, database_now

__all__ = ["Action", "Entry", "TrailPage", "page", "prune", "record"]

Action = Literal[
    "experiment.create", "experiment.cancel", "experiment.retry", "experiment.delete",
    "sweep.create", "sweep.cancel", "sweep.delete",
    "alias.set", "alias.delete",
    "key.create", "key.revoke",
    "database.prune",
]  # fmt: skip
ADDRESS_LENGTH = 64
REQUEST_ID_LENGTH = 128
PART = 1000
"""Entries that go in one transaction."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One act."""

    id: str
    at: datetime
    actor: str
    """The key's name when it acted, `anonymous`, or the user who gave a command."""
    key_id: str | None
    address: str | None
    action: str
    target: str | None
    """The id of an experiment, a sweep or a key, or the name of an alias."""
    request_id: str | None
    details: dict[str, Any]


@dataclass(frozen=True)
class TrailPage:
    """Some acts, and the cursor of those before them."""

    entries: list[Entry]
    next_cursor: str | None


def record(session: Session, actor: Actor, action: Action, target: str, **details: object) -> None:
    """Write down an act, in the transaction that does it: there is no act without it, and none that did not happen."""
    session.add(
        AuditRow(
            id=str(uuid_utils.uuid7()),
            at=database_now(),
            key_id=actor.key_id,
            actor=actor.name,
            address=actor.address and actor.address[:ADDRESS_LENGTH],
            action=action,
            target=target,
            request_id=actor.request_id and actor.request_id[:REQUEST_ID_LENGTH],
            details=details,
        )
    )


def page(
    session: Session, *, target: str | None = None, key_id: str | None = None, cursor: str | None = None, limit: int
) -> TrailPage:
    """What was done, the newest first, `limit` at a time. Ids ascend with time, so the last one is the place to go on
    from.

    Raises:
        InvalidCursor: the cursor was not made here.
    """
    statement = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit + 1)
    if target is not None:
        statement = statement.where(AuditRow.target == target)
    if key_id is not None:
        statement = statement.where(AuditRow.key_id == key_id)
    if cursor is not None:
        statement = statement.where(AuditRow.id < _decode(cursor))
    rows = session.scalars(statement).all()
    more = len(rows) > limit
    return TrailPage([_entry(row) for row in rows[:limit]], rows[limit - 1].id if more else None)


def prune(
    database: Database, older_than: timedelta, *, dry_run: bool = False, pause: Callable[[float], None] = time.sleep
) -> Iterator[int]:
    """Delete entries of that age, and yield how many each transaction deleted; after each comes a pause as long as it
    took. With `dry_run` they are only counted.

    Raises:
        Unavailable: the database cannot be reached, or is locked by somebody else.
    """
    old = select(AuditRow.id).where(AuditRow.at < database_now(-older_than.total_seconds()))
    if dry_run:
        with database.read(unhurried=True) as session:
            yield session.scalar(select(func.count()).select_from(old.subquery())) or 0
        return
    while True:
        begun = time.monotonic()
        with database.write() as session:
            part = session.scalars(old.order_by(AuditRow.id).limit(PART)).all()
            session.execute(delete(AuditRow).where(AuditRow.id.in_(part)))
        if part:
            yield len(part)
        if len(part) < PART:
            return
        pause(time.monotonic() - begun)


def _entry(row: AuditRow) -> Entry:
    return Entry(
        id=row.id,
        at=row.at,
        actor=row.actor,
        key_id=row.key_id,
        address=row.address,
        action=row.action,
        target=row.target,
        request_id=row.request_id,
        details=row.details,
    )


def _decode(cursor: str) -> str:
    try:
        return str(UUID(cursor))
    except ValueError:
        raise InvalidCursor("the cursor is not one that this list gave: begin again without it", "/cursor") from None
