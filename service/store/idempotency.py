"""Answers kept under an `Idempotency-Key`, in the same transaction as what they answer.

After draft-ietf-httpapi-idempotency-key-header: a repeated request gets the first one's answer.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.domain.access import Actor
from service.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from service.store.session import insert_if_absent
from service.store.tables import IdempotencyRow, database_now

__all__ = ["key_of", "once"]

WAIT_SECONDS = 5


def key_of(actor: Actor, key: str | None) -> str | None:
    """The key under which an answer to this actor is kept. Two API keys may choose the same: neither gets the other's
    answers.
    """
    if key is None or actor.key_id is None:
        return key
    return f"{actor.key_id}:{hashlib.sha256(key.encode()).hexdigest()}"


def once(
    session: Session,
    key: str | None,
    *,
    fingerprint: str,
    keep_hours: float,
    act: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Run `act` and keep its answer under `key`, or return the answer that is kept there. Without a key it just runs.

    Two requests at once: the second waits for the first and gets its answer. Both the act and the key are in the
    caller's transaction, so a crash leaves neither.

    Raises:
        IdempotencyKeyReused: the key belongs to a request with another fingerprint.
        IdempotencyKeyInFlight: the first request has not ended within a few seconds.
    """
    if key is None:
        return act()
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < database_now(-3600 * keep_hours)))
    if not _take(session, key, fingerprint):
        kept = session.execute(
            select(IdempotencyRow.fingerprint, IdempotencyRow.answer).where(IdempotencyRow.key == key)
        ).one()
        if kept.fingerprint != fingerprint:
            raise IdempotencyKeyReused("this Idempotency-Key was used with another request: use a new key")
        answer: dict[str, Any] = kept.answer
        return answer
    answer = act()
    session.execute(update(IdempotencyRow).where(IdempotencyRow.key == key).values(answer=answer))
    return answer


def _take(session: Session, key: str, fingerprint: str) -> bool:
    """Insert the key; False when it is there."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
    try:
        return insert_if_absent(
            session, IdempotencyRow, key=key, fingerprint=fingerprint, answer={}, created_at=database_now()
        )
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            raise IdempotencyKeyInFlight("the first request with this Idempotency-Key is still in flight") from None
        raise
