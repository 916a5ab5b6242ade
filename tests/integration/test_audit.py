"""Files against rows: on SQLite and PostgreSQL, in a folder and in an object store."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.store import ObjectStore

from service.domain.experiment import Spec
from service.store import experiments, queue
from service.store.audit import audit, orphans, remove
from service.store.blobs import Blobs, StoredBlob
from service.store.objects import open_store
from service.store.queue import Claim
from service.store.session import Database
from tests.conftest import succeed


@pytest.fixture
def raw(blob_url: str) -> ObjectStore:
    """The store that is behind the blobs."""
    return open_store(blob_url)


def keys(found: Iterable[StoredBlob]) -> list[tuple[str, str]]:
    return [blob.key for blob in found]


def collect(database: Database, blobs: Blobs) -> list[tuple[str, str]]:
    """Collect what is garbage at this moment, however young."""
    found = orphans(database, blobs)
    remove(blobs, found)
    return keys(found)


def create(database: Database) -> str:
    with database.write() as session:
        return experiments.create(session, Spec(activation="relu", depth=1)).id


def claim(database: Database, owner: str, lease_seconds: float = 600) -> Claim:
    with database.write() as session:
        claimed = queue.claim(session, owner=owner, lease_seconds=lease_seconds)
    assert claimed is not None
    return claimed


def test_a_sound_store_has_nothing_to_tell(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    succeed(database, blobs, tiny_onnx)
    report = audit(database, blobs)
    assert report.sound
    assert (report.checked, report.orphans) == (2, [])


def test_missing_and_damaged_files_are_found(
    database: Database, blobs: Blobs, raw: ObjectStore, tiny_onnx: bytes
) -> None:
    made = succeed(database, blobs, tiny_onnx)
    assert made.model is not None
    keras, onnx = (made.model.formats[kind].sha256 for kind in ("keras", "onnx"))
    raw.delete(f"{made.id}/{keras}")
    raw.put(f"{made.id}/{onnx}", b"other bytes")
    report = audit(database, blobs)
    assert not report.sound
    assert (report.missing, report.corrupt) == ([(made.id, keras)], [(made.id, onnx)])


def test_orphans_are_found_and_removed_and_nothing_else_is(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    made = succeed(database, blobs, tiny_onnx)
    of_ended = (made.id, blobs.put(made.id, b"left behind"))
    of_deleted = ("01a20f00-0000-7000-8000-000000000000", blobs.put("01a20f00-0000-7000-8000-000000000000", b"gone"))
    report = audit(database, blobs)
    assert report.sound
    assert set(keys(report.orphans)) == {of_ended, of_deleted}
    remove(blobs, report.orphans)
    after = audit(database, blobs)
    assert (after.checked, after.sound, after.orphans) == (2, True, [])


def test_files_of_experiments_that_this_database_never_knew_are_left_alone(
    database: Database, blobs: Blobs, tiny_onnx: bytes
) -> None:
    elsewhere = "ffffffff-0000-7000-8000-000000000000"  # newer than every row
    blobs.put(elsewhere, b"a model of another database")
    assert audit(database, blobs).orphans == []
    succeed(database, blobs, tiny_onnx)
    assert audit(database, blobs).orphans == []


def test_a_file_whose_writing_was_cut_short_is_an_orphan(database: Database, tmp_path: Path, tiny_onnx: bytes) -> None:
    blobs = Blobs(tmp_path.as_uri())
    made = succeed(database, blobs, tiny_onnx)
    cut = tmp_path / made.id / f"{'a' * 64}#1"  # as a killed worker leaves it
    cut.write_bytes(b"half a mod")
    report = audit(database, blobs)
    assert [(blob.key, blob.size) for blob in report.orphans] == [((made.id, cut.name), 10)]
    remove(blobs, report.orphans)
    assert not cut.exists()
    assert (audit(database, blobs).orphans, audit(database, blobs).sound) == ([], True)


def test_what_was_written_of_late_is_left_when_that_is_wanted(
    database: Database, blobs: Blobs, tiny_onnx: bytes
) -> None:
    made = succeed(database, blobs, tiny_onnx)
    garbage = (made.id, blobs.put(made.id, b"left behind"))
    assert orphans(database, blobs, older_than=timedelta(hours=1)) == []
    (found,) = orphans(database, blobs)
    assert (found.key, found.size) == (garbage, len(b"left behind"))


def test_nothing_of_an_experiment_that_has_not_ended_is_ever_garbage_and_all_of_it_is_at_its_end(
    database: Database, blobs: Blobs
) -> None:
    made = create(database)
    old = blobs.put(made, b"of an attempt that nobody remembers")
    create(database)
    assert collect(database, blobs) == []  # queued
    claimed = claim(database, "one")
    assert claimed.experiment_id == made
    named = blobs.put(made, b"a checkpoint")
    assert collect(database, blobs) == []  # running
    with database.write() as session:
        queue.record_checkpoint(session, claimed, epoch=1, sha256=named)
        experiments.cancel(session, made)
    assert collect(database, blobs) == []  # being cancelled
    with database.write() as session:
        queue.give_back(session, claimed)
    assert collect(database, blobs) == [(made, old)]
    assert blobs.get(made, named) == b"a checkpoint"
    with database.write() as session:
        experiments.delete_finished(session, made)
    assert collect(database, blobs) == [(made, named)]
    assert blobs.list() == []


def test_a_file_that_the_next_attempt_puts_again_and_names_is_there_whenever_it_is_collected(
    database: Database, blobs: Blobs
) -> None:
    """The same bits have the same name: garbage of a dead attempt is what the next is about to name."""
    made = create(database)
    create(database)
    for owner in ("dies", "dies too", "lives"):
        claimed = claim(database, owner, lease_seconds=0 if owner != "lives" else 600)
        assert claimed.experiment_id == made
        collect(database, blobs)
        checkpoint = blobs.put(made, b"the same bits")
        collect(database, blobs)
        if owner != "lives":
            with database.write() as session:
                assert queue.release_expired(session, max_attempts=9) == 1
            collect(database, blobs)
    with database.write() as session:
        queue.record_checkpoint(session, claimed, epoch=1, sha256=checkpoint)
    collect(database, blobs)
    assert blobs.get(made, checkpoint) == b"the same bits"
