"""A database of every earlier revision, with experiments in every state, is brought up to date without loss."""

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, DateTime, MetaData, Table

from service.domain.events import Trained
from service.domain.experiment import Spec, Status
from service.store import experiments, idempotency, listing, models, queue, schema
from service.store.listing import Filter
from service.store.queue import ModelFiles
from service.store.session import Database

MIGRATIONS = Path(schema.__file__).parents[2] / "migrations"
EARLIER = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1:]

BEGUN = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
IDS = {status: f"01a20f00-0000-7000-8000-00000000000{number}" for number, status in enumerate(Status)}
SPEC = Spec(activation="tanh", depth=2, epochs=3, tags=["old"])
PATHS = {
    Status.QUEUED: ["queued"],
    Status.RUNNING: ["queued", "running"],
    Status.CANCELLING: ["queued", "running", "cancelling"],
    Status.SUCCEEDED: ["queued", "running", "succeeded"],
    Status.FAILED: ["queued", "running", "failed"],
    Status.CANCELLED: ["queued", "running", "cancelling", "cancelled"],
}


@pytest.fixture(params=EARLIER)
def old(request: pytest.FixtureRequest, database_url: str):
    """A database of an earlier revision that has been used."""
    with contextlib.closing(Database(database_url)) as database:
        schema.upgrade(database, request.param)
        with database.connection() as connection:
            fill(connection)
        yield database


def fill(connection: Connection) -> None:
    """Write rows as an earlier version did: by the tables that are there, not by those that the code declares now."""
    found = MetaData()
    found.reflect(connection)

    def insert(into: str, /, **values: Any) -> None:
        table = found.tables[into]
        connection.execute(table.insert().values({key: plain(table, key, value) for key, value in values.items()}))

    def plain(table: Table, column: str, value: Any) -> Any:
        kind = table.columns[column].type
        if value is not None and isinstance(kind, DateTime) and connection.dialect.name == "sqlite":
            return value.replace(tzinfo=None)
        return value

    for status, experiment_id in IDS.items():
        begun, succeeded = status is not Status.QUEUED, status is Status.SUCCEEDED
        owned = status in {Status.RUNNING, Status.CANCELLING}
        ended: dict[str, Any] = {"finished_at": BEGUN + timedelta(seconds=9)} if status.terminal else {}
        if succeeded:
            files = {"keras_sha256": "a" * 64, "keras_bytes": 1, "onnx_sha256": "b" * 64, "onnx_bytes": 2}
            ended |= {"test_loss": 0.25, "test_accuracy": 0.93, "weights_sha256": "c" * 64, "parameters": 9, **files}
        if status is Status.FAILED:
            ended |= {"error_code": "training_diverged", "error_message": "the loss became nan in epoch 2"}
        insert(
            "experiments",
            id=experiment_id, status=status.value, spec=SPEC.model_dump(mode="json"),
            activation=SPEC.activation, depth=SPEC.depth, dataset=SPEC.dataset, queue_rank=0,
            attempt=int(begun), drains=0, epoch=2 * begun, computation_seconds=0.5 * begun,
            owner="a worker that is gone" if owned else None,
            lease_expires_at=BEGUN if owned else None,
            checkpoint_epoch=2 if owned else None, checkpoint_sha256="d" * 64 if owned else None,
            last_event=len(PATHS[status]) + 2 * begun + status.terminal,
            created_at=BEGUN, started_at=BEGUN if begun else None, **ended,
        )  # fmt: skip
        sorted_by = {"created_at": BEGUN, "test_accuracy": 0.93 if succeeded else None}
        known = {name: value for name, value in sorted_by.items() if name in found.tables["experiment_tags"].columns}
        insert("experiment_tags", experiment_id=experiment_id, tag="old", **known)
        told: list[tuple[str, dict[str, Any]]] = [("status", {"status": name}) for name in PATHS[status]]
        if begun:
            epochs = [
                {"epoch": number, "loss": 0.5, "accuracy": 0.8, "val_loss": None, "val_accuracy": 0.9,
                 "seconds": 0.25, "gradient_norms": [0.1, None, 0.2]}
                for number in (1, 2)
            ]  # fmt: skip
            for epoch in epochs:
                insert("epochs", experiment_id=experiment_id, **epoch)
            told[2:2] = [("epoch", epoch) for epoch in epochs]
        told += [("done", {"status": status.value})] * status.terminal
        for sequence, (kind, data) in enumerate(told, 1):
            insert(
                "events", experiment_id=experiment_id, sequence=sequence, type=kind, data=data, created_at=BEGUN
            )  # fmt: skip
    insert("aliases", name="mine", experiment_id=IDS[Status.SUCCEEDED], updated_at=BEGUN)
    insert(
        "idempotency_keys", key="once", fingerprint="f" * 64, answer={"id": IDS[Status.QUEUED]},
        created_at=datetime.now(UTC),
    )  # fmt: skip


def test_every_experiment_is_there_as_it_was(old: Database) -> None:
    schema.upgrade(old)
    schema.require_current(old)
    with old.write() as session:
        page = listing.page(session, Filter(tag=["old"]), sort="created_at", cursor=None, limit=50)
        assert {one.id: one.status for one in page.experiments} == {id_: status for status, id_ in IDS.items()}
        for one in page.experiments:
            begun = one.status is not Status.QUEUED
            assert (one.spec, one.created_at) == (SPEC, BEGUN)
            assert (one.attempt, one.progress.epoch) == (int(begun), 2 * begun)
            metrics = experiments.metrics(session, one.id)
            assert [epoch.epoch for epoch in metrics.epochs] == [1, 2][: 2 * begun]
            assert all(epoch.gradient_norms == (0.1, None, 0.2) for epoch in metrics.epochs)
            told = experiments.events_after(session, one.id, 0)
            assert [event.sequence for event in told] == list(range(1, len(told) + 1))
            assert [event.data["status"] for event in told if event.type == "status"] == PATHS[one.status]
            assert (told[-1].type == "done") == one.status.terminal
        succeeded = experiments.get(session, IDS[Status.SUCCEEDED])
        assert succeeded.result is not None
        assert succeeded.result.test_accuracy == 0.93
        failed = experiments.get(session, IDS[Status.FAILED])
        assert failed.error is not None
        assert failed.error.code == "training_diverged"
        assert {alias.name: alias.experiment_id for alias in models.aliases(session)} == {
            "best": IDS[Status.SUCCEEDED],
            "mine": IDS[Status.SUCCEEDED],
        }
        kept = idempotency.once(session, "once", fingerprint="f" * 64, keep_hours=24, act=lambda: {"id": "another"})
        assert kept == {"id": IDS[Status.QUEUED]}


def test_work_goes_on_where_it_was(old: Database) -> None:
    schema.upgrade(old)
    with old.write() as session:
        assert queue.release_expired(session, max_attempts=3) == 2
        assert experiments.get(session, IDS[Status.CANCELLING]).status is Status.CANCELLED
    claims = {}
    for _ in range(2):
        with old.write() as session:
            claimed = queue.claim(session, owner="new", lease_seconds=60)
        assert claimed is not None
        claims[claimed.experiment_id] = claimed
    assert claims[IDS[Status.QUEUED]].attempt == 1
    resumed = claims[IDS[Status.RUNNING]]
    assert (resumed.attempt, resumed.checkpoint_sha256) == (2, "d" * 64)
    trained = Trained(
        experiment_id="unused",
        test_loss=0.5, test_accuracy=0.9, evaluation_seconds=0.5, parameters=9, weights_sha256="e" * 64,
        keras=b"k", onnx=b"o",
    )  # fmt: skip
    with old.write() as session:
        files = ModelFiles(keras_sha256="a" * 64, onnx_sha256="b" * 64)
        assert queue.finish(session, resumed, trained, files) == (Status.SUCCEEDED, "d" * 64)
        told = experiments.events_after(session, resumed.experiment_id, 0)
    assert [event.type for event in told][-2:] == ["status", "done"]
