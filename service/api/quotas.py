"""What the caller of a request may queue."""

from sqlalchemy.orm import Session

from service.settings import Settings
from service.store import quotas

__all__ = ["admit"]


def admit(session: Session, key_id: str | None, settings: Settings, *, count: int, cost: int) -> None:
    """Count so many new experiments, and their cost in parameter-steps, on the caller's API key, in the transaction
    that queues them. Whoever needs no key has no quota.

    Raises:
        KeyQueueFull: too much of this key waits.
        QuotaReached: its quota for today is used up.
        TrainingTooCostly: a whole day's quota would not suffice.
    """
    if key_id is not None:
        quotas.require_room(session, key_id, count, most=settings.max_queued_per_key)
        quotas.charge(session, key_id, cost, quota=settings.training_quota)
