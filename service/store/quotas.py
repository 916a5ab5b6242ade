"""What each API key may take: how much of it waits, and what its training of a day costs.

Both are checked in the transaction that queues, so what is refused or undone has cost nothing.
"""

import math
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.errors import KeyQueueFull, QuotaReached, TrainingTooCostly
from service.store.tables import ExperimentRow, UsageRow, database_now

__all__ = ["charge", "require_room"]

MOST_COUNTED = 10**15
"""Of one act, where there is no quota: a column has 64 bits, and a sweep that nobody limits may cost more."""


def require_room(session: Session, key_id: str, count: int, *, most: int) -> None:
    """Refuse `count` more experiments of a key where more than `most` of it would wait. 0 is no limit.

    On PostgreSQL, transactions at the same moment do not see each other: they may pass the limit by their number.

    Raises:
        KeyQueueFull: there is no room for so many.
    """
    if not most:
        return
    mine = (ExperimentRow.status == Status.QUEUED.value, ExperimentRow.created_by == key_id)
    some = select(ExperimentRow.id).where(*mine).limit(most).subquery()
    waiting = session.scalar(select(func.count()).select_from(some)) or 0
    if waiting + count > most:
        raise KeyQueueFull(
            f"{waiting:,} experiments of this API key wait already, and at most {most:,} of each key may: there is no "
            f"room for {count:,} more, until some of them have begun"
        )


def charge(session: Session, key_id: str, cost: int, *, quota: int) -> None:
    """Add a cost, in parameter-steps, to what a key's training has cost on this day (UTC, by the database's clock).
    A quota of 0 is no limit; what was used is counted all the same, so that one that is set later knows of it.

    Of transactions at the same moment the second waits for the first: together they cannot pass the quota.

    Raises:
        QuotaReached: the day's sum would be more than `quota`.
        TrainingTooCostly: a whole day's quota would not suffice.
    """
    if quota and cost > quota:
        raise TrainingTooCostly.of("this", cost, quota)
    now = session.scalar(select(database_now()))
    assert now is not None  # noqa: S101 - a clock
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    counted = cost if quota else min(cost, MOST_COUNTED)
    statement = dialect.insert(UsageRow).values(key_id=key_id, day=now.date(), parameter_steps=counted)
    total = UsageRow.parameter_steps + statement.excluded.parameter_steps
    added = statement.on_conflict_do_update(
        index_elements=[UsageRow.key_id, UsageRow.day],
        set_={"parameter_steps": total},
        where=total <= quota if quota else None,
    ).returning(UsageRow.parameter_steps)
    if session.execute(added).first() is None:
        _refuse(session, key_id, cost, quota, now)


def _refuse(session: Session, key_id: str, cost: int, quota: int, now: datetime) -> None:
    used = session.scalar(select(UsageRow.parameter_steps).where(UsageRow.key_id == key_id, UsageRow.day == now.date()))
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    raise QuotaReached(
        f"this would cost {cost:,} parameter-steps. The API key's training of today has cost {used:,} of the "
        f"{quota:,} that each key has for a day; the count begins anew at {midnight:%Y-%m-%dT%H:%M:%SZ}",
        retry_after=math.ceil((midnight - now).total_seconds()),
    )
