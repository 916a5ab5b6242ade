"""Backup and restore on real databases and blob stores: what is taken is of one moment, and comes back whole or not."""

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from service.domain.events import Trained
from service.domain.experiment import EpochMetrics, Spec, Status
from service.errors import BlobCorrupt, BlobMissing, Conflict, InvalidInput, LeaseLost, SchemaOutOfDate
from service.store import backup, experiments, models, queue, schema
from service.store.archive import Archive, Manifest
from service.store.audit import audit
from service.store.backup import back_up
from service.store.blobs import Blobs
from service.store.queue import Claim, ModelFiles
from service.store.restore import FENCE, Restored, restore, verify
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


@pytest.fixture
def elsewhere(tmp_path: Path) -> Blobs:
    """An empty blob store to restore into."""
    return Blobs((tmp_path / "restored").as_uri())


@pytest.fixture
def files(tmp_path: Path) -> Blobs:
    """The blob store of the service, in a folder."""
    return Blobs((tmp_path / "blobs").as_uri())


@pytest.fixture
def sqlite(tmp_path: Path, sqlite_template: Path) -> Iterator[Database]:
    """A database for what does not depend on its kind."""
    path = tmp_path / "one.sqlite3"
    path.write_bytes(sqlite_template.read_bytes())
    with contextlib.closing(Database(f"sqlite:///{path}")) as database:
        yield database


@pytest.fixture
def sqlite_empty(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'restored.sqlite3'}")) as database:
        yield database


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


@pytest.mark.slow
def test_a_backup_to_and_from_an_object_store(
    sqlite: Database, files: Blobs, sqlite_empty: Database, s3_url: str, tiny_onnx: bytes
) -> None:
    fill(sqlite, files, tiny_onnx)
    made = take(sqlite, files, f"{s3_url}/backup")
    assert verify(Archive(f"{s3_url}/backup")) == made
    done = bring(f"{s3_url}/backup", sqlite_empty, Blobs(f"{s3_url}/restored"))
    assert done.files == 3
    assert audit(sqlite_empty, Blobs(f"{s3_url}/restored")).sound


class Cut(Exception):
    """The process ends here."""


def cut_at(what: str) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if text.startswith(what):
            raise Cut

    return tell


@pytest.mark.parametrize("when", ["reading", "copying what has come since"])
def test_a_backup_that_was_cut_short_is_none_and_goes_on(
    when: str,
    sqlite: Database,
    files: Blobs,
    sqlite_empty: Database,
    elsewhere: Blobs,
    tiny_onnx: bytes,
    tmp_path: Path,
) -> None:
    fill(sqlite, files, tiny_onnx)
    with pytest.raises(Cut):
        back_up(sqlite, files, Archive(str(tmp_path / "backup"), make=True), tell=cut_at(when))
    for read in (
        lambda: verify(Archive(str(tmp_path / "backup"))),
        lambda: bring(tmp_path / "backup", sqlite_empty, elsewhere),
    ):
        with pytest.raises(InvalidInput, match="cut short"):
            read()
    claimed = begin(sqlite, seed=9)
    checkpoint(sqlite, files, claimed, 1)
    made = take(sqlite, files, tmp_path / "backup")
    assert verify(Archive(str(tmp_path / "backup"))) == made
    assert made.files == 4
    assert len(list((tmp_path / "backup" / "files").glob("*/*"))) == made.files
    parts = sum(map(len, made.tables.values()))
    assert len(list((tmp_path / "backup" / "rows").glob("*/*"))) == parts


def test_a_file_that_a_cut_damaged_is_copied_again(
    sqlite: Database, files: Blobs, tiny_onnx: bytes, tmp_path: Path
) -> None:
    fill(sqlite, files, tiny_onnx)
    with pytest.raises(Cut):
        back_up(sqlite, files, Archive(str(tmp_path / "backup"), make=True), tell=cut_at("reading"))
    for path in (tmp_path / "backup" / "files").glob("*/*"):
        path.write_bytes(path.read_bytes()[:-1])
    made = take(sqlite, files, tmp_path / "backup")
    assert verify(Archive(str(tmp_path / "backup"))) == made


def test_a_whole_backup_is_not_written_over(sqlite: Database, files: Blobs, tmp_path: Path) -> None:
    made = take(sqlite, files, tmp_path / "backup")
    with pytest.raises(Conflict, match="holds a backup already"):
        take(sqlite, files, tmp_path / "backup")
    assert verify(Archive(str(tmp_path / "backup"))) == made


def test_what_is_none_of_a_backup_is_never_touched(sqlite: Database, files: Blobs, tmp_path: Path) -> None:
    photo = tmp_path / "mine" / "files" / "photos" / "cat.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"precious")
    with pytest.raises(Conflict, match="is not empty"):
        take(sqlite, files, tmp_path / "mine")
    assert photo.read_bytes() == b"precious"


@pytest.mark.parametrize("place", ["blobs", ".", "blobs/below"])
def test_a_backup_knows_that_it_would_lie_around_or_in_the_blobs(tmp_path: Path, place: str) -> None:
    assert Archive(str(tmp_path / place), make=True).overlaps((tmp_path / "blobs").as_uri())
    assert not Archive(str(tmp_path / "blobs2"), make=True).overlaps((tmp_path / "blobs").as_uri())


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


def test_writers_go_on_while_a_backup_is_taken_and_it_shows_one_moment(
    database: Database, files: Blobs, sqlite_empty: Database, elsewhere: Blobs, tiny_onnx: bytes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Between any two parts that are read, something is written."""
    monkeypatch.setattr(backup, "PART", 1)
    kept = succeed(database, files, tiny_onnx)
    running = begin(database)
    checkpoint(database, files, running, 1)
    archive = Archive(str(tmp_path / "backup"), make=True)
    before = contents(database)
    number = iter(range(2, 1000))
    plain = archive.put_rows

    def put_rows(table: str, rows: Any) -> Any:
        checkpoint(database, files, running, next(number))
        return plain(table, rows)

    monkeypatch.setattr(archive, "put_rows", put_rows)

    def tell(said: str) -> None:
        if said.startswith("reading"):  # behind the first copying, and no longer named when the rows are read
            checkpoint(database, files, running, next(number))
            before.update(contents(database))

    made = back_up(database, files, archive, tell=tell)
    rows = {name: sum(part.rows for part in parts) for name, parts in made.tables.items()}
    assert rows == {name: len(found) for name, found in before.items()}
    assert verify(archive) == made
    bring(tmp_path / "backup", sqlite_empty, elsewhere)
    with sqlite_empty.write() as session:
        assert experiments.metrics(session, running.experiment_id).epochs == (epoch(1), epoch(2))
        claimed = queue.claim(session, owner="new", lease_seconds=60)
        assert claimed is not None
        assert claimed.checkpoint_sha256 is not None
        assert elsewhere.get(running.experiment_id, claimed.checkpoint_sha256) == b"checkpoint 2"
        assert experiments.get(session, kept.id).model is not None


def test_a_checkpoint_that_was_replaced_too_soon_and_an_experiment_that_was_deleted_are_left_out(
    sqlite: Database, files: Blobs, sqlite_empty: Database, elsewhere: Blobs, tiny_onnx: bytes, tmp_path: Path
) -> None:
    doomed = succeed(sqlite, files, tiny_onnx)
    running = begin(sqlite)

    def tell(said: str) -> None:
        if said.startswith("reading"):
            sha256 = checkpoint(sqlite, files, running, 1)
            files.delete(running.experiment_id, sha256)  # the row is read before its successor is named
            late = succeed(sqlite, files, tiny_onnx)
            gone.append(late.id)
        if said.startswith("copying what"):
            for experiment_id in gone:
                with sqlite.write() as session:
                    found = experiments.delete_finished(session, experiment_id)
                for one in found:
                    files.delete(experiment_id, one)

    gone: list[str] = []
    made = back_up(sqlite, files, Archive(str(tmp_path / "backup"), make=True), tell=tell)
    assert (made.deleted, made.damaged) == (tuple(gone), ())
    bring(tmp_path / "backup", sqlite_empty, elsewhere)
    with sqlite_empty.write() as session:
        claimed = queue.claim(session, owner="new", lease_seconds=60)
        assert claimed is not None
        assert (claimed.experiment_id, claimed.checkpoint_sha256) == (running.experiment_id, None)
        assert experiments.get(session, doomed.id).status is Status.SUCCEEDED
    assert audit(sqlite_empty, elsewhere).sound


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


def test_no_backup_is_made_of_a_database_that_holds_what_is_not_known(
    database: Database, files: Blobs, tmp_path: Path
) -> None:
    with database.write() as session:
        session.execute(text(f"UPDATE alembic_version SET version_num = '0099_since_{schema.head()[:4]}'"))
    with pytest.raises(SchemaOutOfDate, match="newer epochd"):
        take(database, files, tmp_path / "backup")


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
