"""Backups of real databases and blob stores: what is taken is of one moment, and whole or none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.domain.experiment import Status
from service.errors import Conflict, InvalidInput, SchemaOutOfDate
from service.store import backup, experiments, queue, schema
from service.store.archive import Archive
from service.store.audit import audit
from service.store.backup import back_up
from service.store.blobs import Blobs
from service.store.restore import verify
from service.store.session import Database
from tests.backups import Cut, begin, bring, checkpoint, contents, epoch, fill, take
from tests.conftest import succeed


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


def test_no_backup_is_made_of_a_database_that_holds_what_is_not_known(
    database: Database, files: Blobs, tmp_path: Path
) -> None:
    with database.write() as session:
        session.execute(text(f"UPDATE alembic_version SET version_num = '0099_since_{schema.head()[:4]}'"))
    with pytest.raises(SchemaOutOfDate, match="newer epochd"):
        take(database, files, tmp_path / "backup")
