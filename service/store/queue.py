"""The queue's guarantees: leases by the database's clock, and fencing on every write of a worker.

A claim gives an attempt number. Every later write names it, and fails with `LeaseLost` when another attempt has
begun or the experiment has ended: a stale worker can never write over a newer one.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from service.domain.events import Trained
from service.domain.experiment import EpochMetrics, ErrorCode, Spec, Status
from service.errors import LeaseLost
from service.store.tables import EpochRow, ExperimentRow, TagRow, database_now
from service.store.transitions import append_event, move, update_returning

__all__ = [
    "OWNED",
    "Claim",
    "ModelFiles",
    "claim",
    "claim_alike",
    "fail",
    "finish",
    "give_back",
    "has_expired",
    "has_work",
    "heartbeat",
    "owned",
    "record_checkpoint",
    "record_epoch",
    "release_expired",
    "requeue",
]

MESSAGE_LENGTH = 1000
OWNED = (Status.RUNNING.value, Status.CANCELLING.value)
"""Statuses in which an experiment belongs to a worker."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One attempt at one experiment. `attempt` and `owner` are its fencing token."""

    experiment_id: str
    attempt: int
    owner: str
    spec: Spec
    checkpoint_sha256: str | None
    """Blob to resume from, or None."""
    trace_context: str | None = None
    """`traceparent` of the request that queued it, if it is traced."""
    queued_at: datetime | None = None
    """When it was queued first."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The SHA-256 of a model's files, put before the row that names them."""

    keras_sha256: str
    onnx_sha256: str


def has_work(session: Session) -> bool:
    """Whether a claim may find something: a look without a lock, for idle workers."""
    return bool(session.scalar(select(exists().where(ExperimentRow.status == Status.QUEUED.value))))


def has_expired(session: Session) -> bool:
    """Whether a lease has run out: a look without a lock."""
    expired = (ExperimentRow.status.in_(OWNED), ExperimentRow.lease_expires_at < database_now())
    return bool(session.scalar(select(exists().where(*expired))))


def claim(session: Session, *, owner: str, lease_seconds: float) -> Claim | None:
    """Take the queued experiment of highest priority, the oldest among equals; None when the queue is empty."""
    first = (
        select(ExperimentRow.id)
        .where(ExperimentRow.status == Status.QUEUED.value)
        .order_by(ExperimentRow.queue_rank, ExperimentRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's BEGIN IMMEDIATE lets one claim at a time
        .scalar_subquery()
    )
    row = _begin(session, ExperimentRow.id == first, owner, lease_seconds)
    return None if row is None else _claim(row, owner)


def claim_alike(session: Session, first: Claim, *, lease_seconds: float, most: int, share: int) -> list[Claim]:
    """Take queued experiments that can be trained as one with the one that was just claimed: of the same stack key
    and priority, with the same epochs behind them. At most `most`, and no more than one of `share` equal parts of
    those that wait, so that other slots have their part.

    An attempt after a crash is always alone, so that work that kills its trainer cannot take others with it.
    """
    row = session.get_one(ExperimentRow, first.experiment_id)
    if row.stack_key is None or row.attempt > row.drains + 1:
        return []
    alike = (
        ExperimentRow.status == Status.QUEUED.value,
        ExperimentRow.stack_key == row.stack_key,
        ExperimentRow.queue_rank == row.queue_rank,
        ExperimentRow.attempt == ExperimentRow.drains,
        ExperimentRow.checkpoint_epoch.is_not_distinct_from(row.checkpoint_epoch),
    )
    enough = select(ExperimentRow.id).where(*alike).limit(most * share).subquery()
    waiting = session.scalar(select(func.count()).select_from(enough)) or 0
    part = min(most, math.ceil((waiting + 1) / share) - 1)
    if part <= 0:
        return []
    found = session.scalars(
        select(ExperimentRow.id).where(*alike).order_by(ExperimentRow.id).limit(part).with_for_update(skip_locked=True)
    )
    rows = [_begin(session, ExperimentRow.id == one, first.owner, lease_seconds) for one in found.all()]
    return [_claim(row, first.owner) for row in rows if row is not None]


def heartbeat(
    session: Session, *, owner: str, experiment_ids: Collection[str], lease_seconds: float
) -> Mapping[tuple[str, int], Status]:
    """Renew a worker's leases on these experiments. Returns which of them it still owns; the others are lost."""
    mine = (ExperimentRow.id.in_(experiment_ids), ExperimentRow.owner == owner, ExperimentRow.status.in_(OWNED))
    # Whoever locks many rows locks them by id, so that no two wait for each other.
    session.execute(select(ExperimentRow.id).where(*mine).order_by(ExperimentRow.id).with_for_update())
    rows = session.execute(
        update(ExperimentRow)
        .where(*mine)
        .values(lease_expires_at=database_now(lease_seconds))
        .returning(ExperimentRow.id, ExperimentRow.attempt, ExperimentRow.status)
        .execution_options(synchronize_session=False)
    )
    return {(row.id, row.attempt): Status(row.status) for row in rows}


def owned(session: Session, *, owner: str) -> Mapping[tuple[str, int], Status]:
    """What a worker owns, by experiment and attempt: how it learns of cancels and lost leases."""
    rows = session.execute(
        select(ExperimentRow.id, ExperimentRow.attempt, ExperimentRow.status).where(
            ExperimentRow.owner == owner, ExperimentRow.status.in_(OWNED)
        )
    )
    return {(row.id, row.attempt): Status(row.status) for row in rows}


def record_epoch(session: Session, claimed: Claim, metrics: EpochMetrics) -> None:
    """Write an epoch's metrics and its event. An epoch that an earlier attempt recorded is not written twice:
    resumed training repeats it bit for bit. Its seconds count all the same.

    Raises:
        LeaseLost: this attempt is over.
    """
    row = _fenced(session, claimed, computation_seconds=ExperimentRow.computation_seconds + metrics.seconds)
    if metrics.epoch <= row.epoch:
        return
    row.epoch = metrics.epoch
    values = metrics.model_dump(mode="json")
    session.add(EpochRow(experiment_id=row.id, **values))
    append_event(session, row, "epoch", values)


def record_checkpoint(session: Session, claimed: Claim, *, epoch: int, sha256: str) -> str | None:
    """Name the blob to resume from, and return the SHA-256 of the one it replaces, if any.

    Raises:
        LeaseLost: this attempt is over.
    """
    row = _fenced(session, claimed)
    replaced = row.checkpoint_sha256
    row.checkpoint_sha256, row.checkpoint_epoch = sha256, epoch
    return replaced if replaced != sha256 else None


def finish(session: Session, claimed: Claim, trained: Trained, files: ModelFiles) -> tuple[Status, str | None]:
    """End with a model. A cancel that came first wins: then the experiment is cancelled and the files are garbage.

    Returns the final status and the SHA-256 of the checkpoint that is no longer needed.

    Raises:
        LeaseLost: this attempt is over.
    """
    checkpoint = _fenced(session, claimed).checkpoint_sha256
    row = _end(
        session,
        claimed,
        Status.SUCCEEDED,
        test_loss=trained.test_loss,
        test_accuracy=trained.test_accuracy,
        computation_seconds=ExperimentRow.computation_seconds + trained.evaluation_seconds,
        parameters=trained.parameters,
        weights_sha256=trained.weights_sha256,
        keras_sha256=files.keras_sha256,
        keras_bytes=len(trained.keras),
        onnx_sha256=files.onnx_sha256,
        onnx_bytes=len(trained.onnx),
    )
    row.checkpoint_sha256 = row.checkpoint_epoch = None  # whatever the outcome: its file is discarded
    if row.status == Status.SUCCEEDED:
        tags = update(TagRow).where(TagRow.experiment_id == row.id).values(test_accuracy=trained.test_accuracy)
        session.execute(tags.execution_options(synchronize_session=False))
    return Status(row.status), checkpoint


def fail(session: Session, claimed: Claim, code: ErrorCode, message: str) -> Status:
    """End without a model, for a reason that another attempt would meet again.

    Raises:
        LeaseLost: this attempt is over.
    """
    row = _end(session, claimed, Status.FAILED, error_code=code, error_message=message[:MESSAGE_LENGTH])
    return Status(row.status)


def requeue(session: Session, claimed: Claim, *, reason: str, max_attempts: int) -> Status:
    """Give up this attempt because its trainer died; another may go on from the last checkpoint.

    Raises:
        LeaseLost: this attempt is over.
    """
    row = _fenced(session, claimed)
    return _retry_or_fail(session, row, reason=reason, max_attempts=max_attempts)


def give_back(session: Session, claimed: Claim) -> Status:
    """Give work back because the worker stops. This does not count towards the attempts that are allowed.

    Raises:
        LeaseLost: this attempt is over.
    """
    row = _end(session, claimed, Status.QUEUED, reason="drained", drains=ExperimentRow.drains + 1)
    return Status(row.status)


def release_expired(session: Session, *, max_attempts: int) -> int:
    """Take back every experiment whose lease has run out. Returns how many."""
    rows = session.scalars(
        select(ExperimentRow)
        .where(ExperimentRow.status.in_(OWNED), ExperimentRow.lease_expires_at < database_now())
        .order_by(ExperimentRow.id)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        _retry_or_fail(session, row, reason="lease_expired", max_attempts=max_attempts)
    return len(rows)


def _begin(session: Session, which: ColumnElement[bool], owner: str, lease_seconds: float) -> ExperimentRow | None:
    return move(
        session,
        Status.RUNNING,
        which,
        owner=owner,
        attempt=ExperimentRow.attempt + 1,
        lease_expires_at=database_now(lease_seconds),
        started_at=func.coalesce(ExperimentRow.started_at, database_now()),
    )


def _claim(row: ExperimentRow, owner: str) -> Claim:
    return Claim(
        experiment_id=row.id,
        attempt=row.attempt,
        owner=owner,
        spec=Spec.model_validate(row.spec),
        checkpoint_sha256=row.checkpoint_sha256,
        trace_context=row.trace_context,
        queued_at=row.created_at,
    )


def _fence(claimed: Claim) -> tuple[Any, ...]:
    return (
        ExperimentRow.id == claimed.experiment_id,
        ExperimentRow.attempt == claimed.attempt,
        ExperimentRow.owner == claimed.owner,
    )


def _fenced(session: Session, claimed: Claim, **values: Any) -> ExperimentRow:  # noqa: ANN401 - columns
    """Update and lock the claimed row, or raise LeaseLost. Setting the owner to itself takes the lock alone."""
    row = update_returning(
        session, *_fence(claimed), ExperimentRow.status.in_(OWNED), **(values or {"owner": claimed.owner})
    )
    if row is None:
        raise LeaseLost(f"attempt {claimed.attempt} at experiment {claimed.experiment_id} is over")
    return row


def _end(
    session: Session,
    claimed: Claim,
    target: Status,
    *,
    reason: str | None = None,
    **values: Any,  # noqa: ANN401 - columns
) -> ExperimentRow:
    """Move a claimed experiment from running to `target`, or from cancelling to cancelled."""
    row = move(session, target, *_fence(claimed), reason=reason, **values)
    if row is None:
        row = move(session, Status.CANCELLED, *_fence(claimed), ExperimentRow.status == Status.CANCELLING.value)
    if row is None:
        raise LeaseLost(f"attempt {claimed.attempt} at experiment {claimed.experiment_id} is over")
    return row


def _retry_or_fail(session: Session, row: ExperimentRow, *, reason: str, max_attempts: int) -> Status:
    this = ExperimentRow.id == row.id
    moved: ExperimentRow | None
    if row.status == Status.CANCELLING.value:
        moved = move(session, Status.CANCELLED, this)
    elif row.attempt - row.drains >= max_attempts:
        message = f"given up after {max_attempts} attempts; the last ended with: {reason}"
        moved = move(session, Status.FAILED, this, error_code="attempts_exhausted",
                     error_message=message[:MESSAGE_LENGTH])  # fmt: skip
    else:
        moved = move(session, Status.QUEUED, this, reason=reason)
    assert moved is not None  # noqa: S101 - the row is locked
    return Status(moved.status)
