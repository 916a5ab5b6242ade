"""What comes back from a backup, on real databases and blob stores, and what refuses to."""

import contextlib
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.domain.events import Trained
from service.domain.experiment import Spec, Status
from service.errors import BlobCorrupt, BlobMissing, Conflict, InvalidInput, LeaseLost, SchemaOutOfDate
from service.store import experiments, queue, schema
from service.store.archive import Archive, Manifest
from service.store.audit import audit
from service.store.blobs import Blobs
from service.store.queue import ModelFiles
from service.store.restore import FENCE, restore, verify
from service.store.session import Database
from tests.backups import Cut, begin, bring, checkpoint, contents, epoch, fill, quiet, take
from tests.conftest import succeed


def test_everything_comes_back_from_either_kind_of_database_to_either(
    database: Database, empty: Database, files: Blobs, elsewhere: Blobs, tiny_onnx: bytes, tmp_path: Path
) -> None:
    ids = fill(database, files, tiny_onnx)
    before = contents(database)
    made = take(database, files, tmp_path / "backup")
    assert contents(database) == before
    assert made.rows == sum(map(len, before.values()))
    assert (made.revision, made.damaged, made.deleted) == (schema.head(), (), ())
    done = bring(tmp_path / "backup", empty, elsewhere)
    assert (done.files, done.requeued) == (3, 1)
    after = contents(empty)
    same = before.keys() - {"experiments", "events"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert [event for event in before["events"] if event not in after["events"]] == []
    report = audit(empty, elsewhere)
    assert (report.checked, report.sound, report.orphans) == (3, True, [])
    with empty.read() as session:
        statuses = {status: experiments.get(session, one).status for status, one in ids.items()}
        metrics = experiments.metrics(session, ids[Status.RUNNING])
        model = experiments.get(session, ids[Status.SUCCEEDED]).model
    moved = {Status.RUNNING: Status.QUEUED, Status.CANCELLING: Status.CANCELLED}
    assert statuses == {status: moved.get(status, status) for status in ids}
    assert metrics.epochs == (epoch(1),)
    assert model is not None
    assert elsewhere.get(ids[Status.SUCCEEDED], model.formats["onnx"].sha256) == tiny_onnx


def test_what_ran_is_queued_again_with_its_checkpoint_and_no_worker_of_before_can_write(
    database: Database, files: Blobs, sqlite_empty: Database, elsewhere: Blobs, tmp_path: Path
) -> None:
    stale = begin(database)
    sha256 = checkpoint(database, files, stale, 1)
    with database.write() as session:
        waits = experiments.create(session, Spec(activation="relu", depth=1))
    take(database, files, tmp_path / "backup")
    with database.write() as session:  # it goes on after the backup
        later = queue.claim(session, owner="before", lease_seconds=600)
    assert later is not None
    assert later.experiment_id == waits.id
    bring(tmp_path / "backup", sqlite_empty, elsewhere)
    with sqlite_empty.write() as session:
        told = experiments.events_after(session, stale.experiment_id, 0)
        assert told[-1].data == {"status": "queued", "attempt": 1 + FENCE, "reason": "restored"}
        # The same process claims what it had: the token of each of its former attempts stays worth nothing.
        claims = [queue.claim(session, owner="before", lease_seconds=600) for _ in range(2)]
    first, second = claims
    assert first is not None
    assert second is not None
    assert (first.experiment_id, first.checkpoint_sha256) == (stale.experiment_id, sha256)
    assert elsewhere.get(first.experiment_id, sha256) == b"checkpoint 1"
    for token in (stale, later):
        with pytest.raises(LeaseLost), sqlite_empty.write() as session:
            queue.record_epoch(session, token, epoch(2))
    with sqlite_empty.write() as session:
        queue.record_epoch(session, first, epoch(2))
        # It has as many attempts left as it had: no restoration uses one up.
        assert queue.requeue(session, second, reason="died", max_attempts=2) is Status.QUEUED


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest["tables"].pop("api_keys"), "lacks the tables api_keys"),
        (lambda manifest: manifest["tables"]["experiments"][0].update(rows=99), "99 rows"),
        (lambda manifest: manifest.update(revision="nope"), "nope"),
    ],
    ids=["a table", "a count", "a revision"],
)
def test_a_manifest_that_does_not_fit_is_told_by_a_dry_run_and_a_restoration(
    sqlite: Database, files: Blobs, tmp_path: Path, change: Callable[[Any], object], says: str
) -> None:
    with sqlite.write() as session:
        experiments.create(session, Spec(activation="relu", depth=1))
    take(sqlite, files, tmp_path / "backup")
    manifest = tmp_path / "backup" / "backup.json"
    found = json.loads(manifest.read_text())
    change(found)
    manifest.write_text(json.dumps(found))
    kinds = (InvalidInput, BlobCorrupt, SchemaOutOfDate)
    with pytest.raises(kinds, match=says):
        verify(Archive(str(tmp_path / "backup")))
    with (
        contextlib.closing(Database(f"sqlite:///{tmp_path / 'other.sqlite3'}")) as other,
        pytest.raises(kinds, match=says),
    ):
        bring(tmp_path / "backup", other, Blobs((tmp_path / "others").as_uri()))


def test_what_was_damaged_before_is_told_and_does_not_keep_the_rest_from_coming_back(
    sqlite: Database, files: Blobs, sqlite_empty: Database, elsewhere: Blobs, tiny_onnx: bytes, tmp_path: Path
) -> None:
    hurt, whole = succeed(sqlite, files, tiny_onnx), succeed(sqlite, files, tiny_onnx)
    assert hurt.model is not None
    sha256 = hurt.model.formats["onnx"].sha256
    files.delete(hurt.id, sha256)
    made = take(sqlite, files, tmp_path / "backup")
    assert made.damaged == ((hurt.id, sha256),)
    assert verify(Archive(str(tmp_path / "backup"))) == made
    bring(tmp_path / "backup", sqlite_empty, elsewhere)
    report = audit(sqlite_empty, elsewhere)
    assert (report.missing, report.corrupt) == ([(hurt.id, sha256)], [])
    with sqlite_empty.read() as session:
        assert experiments.get(session, whole.id).model is not None


def test_nothing_is_restored_into_a_place_that_is_used(
    sqlite: Database, files: Blobs, empty: Database, elsewhere: Blobs, tmp_path: Path
) -> None:
    begin(sqlite)
    take(sqlite, files, tmp_path / "backup")
    schema.initialise(empty)
    with pytest.raises(Conflict, match="not empty"):
        bring(tmp_path / "backup", empty, elsewhere)
    with empty.read() as session:
        assert session.scalar(text("SELECT count(*) FROM experiments")) == 0
    schema.downgrade(empty, "base")
    with empty.write() as session:
        session.execute(text("DROP TABLE alembic_version"))
    strange = elsewhere.put("another", b"file")
    with pytest.raises(Conflict, match="blob store"):
        bring(tmp_path / "backup", empty, elsewhere)
    elsewhere.delete("another", strange)
    assert bring(tmp_path / "backup", empty, elsewhere).requeued == 1


def test_a_restoration_that_was_cut_short_leaves_an_empty_database_and_goes_on(
    sqlite: Database, files: Blobs, empty: Database, elsewhere: Blobs, tiny_onnx: bytes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fill(sqlite, files, tiny_onnx)
    take(sqlite, files, tmp_path / "backup")
    archive = Archive(str(tmp_path / "backup"))
    plain = archive.table

    def table(manifest: Manifest, name: str) -> Any:
        if name == "aliases":  # behind those of most rows
            raise Cut
        return plain(manifest, name)

    monkeypatch.setattr(archive, "table", table)
    with pytest.raises(Cut):
        restore(archive, empty, elsewhere, tell=quiet)
    assert schema.current(empty) is None
    assert bring(tmp_path / "backup", empty, elsewhere).files == 3
    assert audit(empty, elsewhere).sound


@pytest.mark.parametrize("of", ["rows", "files"])
def test_a_damaged_backup_is_told_and_restores_nothing(
    of: str, sqlite: Database, files: Blobs, sqlite_empty: Database, elsewhere: Blobs, tiny_onnx: bytes, tmp_path: Path
) -> None:
    fill(sqlite, files, tiny_onnx)
    take(sqlite, files, tmp_path / "backup")
    pattern = "rows/events/*" if of == "rows" else "files/*/*"
    path = next(iter((tmp_path / "backup").glob(pattern)))
    path.write_bytes(gzip.compress(b"{}"))
    with pytest.raises((BlobCorrupt, BlobMissing)):
        verify(Archive(str(tmp_path / "backup")))
    with pytest.raises((BlobCorrupt, BlobMissing), match="damaged"):
        bring(tmp_path / "backup", sqlite_empty, elsewhere)
    assert schema.current(sqlite_empty) is None


def test_what_is_no_backup_and_one_of_a_newer_epochd_are_told(
    sqlite: Database, files: Blobs, sqlite_empty: Database, elsewhere: Blobs, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        Archive(str(tmp_path / "nothing"))
    made = take(sqlite, files, tmp_path / "backup")
    manifest = tmp_path / "backup" / "backup.json"
    manifest.write_text(made.model_copy(update={"revision": "9999"}).model_dump_json())
    with pytest.raises(SchemaOutOfDate, match="newer epochd"):
        bring(tmp_path / "backup", sqlite_empty, elsewhere)
    manifest.write_text("{}")
    with pytest.raises(InvalidInput, match="damaged"):
        bring(tmp_path / "backup", sqlite_empty, elsewhere)


def test_a_backup_of_an_earlier_revision_is_brought_up_to_date(
    sqlite: Database, files: Blobs, empty: Database, elsewhere: Blobs, tiny_onnx: bytes, tmp_path: Path
) -> None:
    """As an earlier version wrote it: without the tables and columns that came later."""
    succeeded = succeed(sqlite, files, tiny_onnx).id
    made = take(sqlite, files, tmp_path / "backup")
    archive = Archive(str(tmp_path / "backup"))
    tables = {}
    for name, parts in made.tables.items():
        rows = [row for part in parts for row in archive.rows(name, part)]
        if name not in {"api_keys", "audit_events", "training_usage"}:
            later = {"created_by", "trace_context"} if name == "experiments" else set()
            kept = [{key: value for key, value in row.items() if key not in later} for row in rows]
            tables[name] = (archive.put_rows(name, kept),) if kept else ()
    archive.complete(made.model_copy(update={"revision": "0006", "tables": tables}))
    bring(tmp_path / "backup", empty, elsewhere)
    assert schema.current(empty) == schema.head()
    with empty.read() as session:
        assert experiments.get(session, succeeded).model is not None


def test_a_restored_experiment_ends_like_any_other(
    sqlite: Database, files: Blobs, sqlite_empty: Database, elsewhere: Blobs, tmp_path: Path
) -> None:
    running = begin(sqlite)
    checkpoint(sqlite, files, running, 1)
    take(sqlite, files, tmp_path / "backup")
    bring(tmp_path / "backup", sqlite_empty, elsewhere)
    with sqlite_empty.write() as session:
        claimed = queue.claim(session, owner="new", lease_seconds=60)
    assert claimed is not None
    trained = Trained(
        experiment_id=claimed.experiment_id, test_loss=0.5, test_accuracy=0.9, evaluation_seconds=0.5, parameters=9,
        weights_sha256="e" * 64, keras=b"k", onnx=b"o",
    )  # fmt: skip
    named = ModelFiles(keras_sha256=elsewhere.put(claimed.experiment_id, b"k"),
                       onnx_sha256=elsewhere.put(claimed.experiment_id, b"o"))  # fmt: skip
    with sqlite_empty.write() as session:
        assert queue.finish(session, claimed, trained, named)[0] is Status.SUCCEEDED
