"""Backups of a service that has something in every table."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from service.domain.experiment import EpochMetrics, Spec, Status
from service.store import experiments, models, queue
from service.store.archive import Archive, Manifest
from service.store.backup import back_up
from service.store.blobs import Blobs
from service.store.queue import Claim
from service.store.restore import Restored, restore
from service.store.session import Database
from service.store.tables import AuditRow, Base, KeyRow, UsageRow, WorkerRow
from tests.conftest import succeed


def quiet(_: str) -> None:
    """Nobody listens."""


def take(database: Database, blobs: Blobs, place: Path | str) -> Manifest:
    return back_up(database, blobs, Archive(str(place), make=True), tell=quiet)


def bring(place: Path | str, database: Database, blobs: Blobs) -> Restored:
    return restore(Archive(str(place)), database, blobs, tell=quiet)


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but the workers'."""
    tables = [table for table in Base.metadata.sorted_tables if table is not WorkerRow.__table__]
    with database.read() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr) for table in tables
        }


def begin(database: Database, **spec: Any) -> Claim:
    """A new experiment that runs."""
    with database.write() as session:
        experiments.create(session, Spec.model_validate({"activation": "relu", "depth": 1, "priority": 1000} | spec))
        claimed = queue.claim(session, owner="before", lease_seconds=600)
    assert claimed is not None
    return claimed


def epoch(number: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=number, loss=1 / 3, accuracy=0.1 + 0.2, val_loss=None, val_accuracy=1e-300, seconds=0.25,
        gradient_norms=(0.1, None),
    )  # fmt: skip


def checkpoint(database: Database, blobs: Blobs, claimed: Claim, number: int) -> str:
    """One more epoch of it, and a checkpoint there in place of the last, as a worker does it."""
    sha256 = blobs.put(claimed.experiment_id, f"checkpoint {number}".encode())
    with database.write() as session:
        queue.record_epoch(session, claimed, epoch(number))
        replaced = queue.record_checkpoint(session, claimed, epoch=number, sha256=sha256)
    if replaced:
        blobs.delete(claimed.experiment_id, replaced)
    return sha256


def fill(database: Database, blobs: Blobs, onnx: bytes) -> dict[Status, str]:
    """Something in every table, and an experiment in every state; their ids."""
    found = {Status.SUCCEEDED: succeed(database, blobs, onnx, spec=Spec(activation="relu", depth=1, tags=["été"])).id}
    running, cancelling, failed = (begin(database, seed=seed) for seed in range(3))
    checkpoint(database, blobs, running, 1)
    with database.write() as session:
        experiments.cancel(session, cancelling.experiment_id)
        queue.fail(session, failed, "training_diverged", "the loss became nan in epoch 2")
        queued = experiments.create(session, Spec(activation="tanh", depth=2))
        models.set_alias(session, "mine", found[Status.SUCCEEDED])
        at = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
        session.execute(
            insert(KeyRow).values(id="key", name="ours", secret_sha256="a" * 64, scopes=["read"], created_at=at)
        )
        session.execute(
            insert(AuditRow).values(id="1", at=at, actor="ours", action="experiment.create", details={"n": 2**40})
        )
        session.execute(insert(UsageRow).values(key_id="key", day=date(2026, 3, 1), parameter_steps=2**40))
    return found | {
        Status.RUNNING: running.experiment_id,
        Status.CANCELLING: cancelling.experiment_id,
        Status.FAILED: failed.experiment_id,
        Status.QUEUED: queued.id,
    }


class Cut(Exception):
    """The process ends here."""
