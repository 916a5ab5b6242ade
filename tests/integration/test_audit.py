"""Files against rows, on SQLite and PostgreSQL."""

import os
from pathlib import Path

import pytest

from service.domain.experiment import Spec
from service.store import experiments, queue
from service.store.audit import audit, remove_orphans
from service.store.blobs import Blobs
from service.store.session import Database
from tests.conftest import succeed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder.as_uri())


def test_a_sound_store_has_nothing_to_tell(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    succeed(database, blobs, tiny_onnx)
    report = audit(database, blobs)
    assert report.sound
    assert (report.checked, report.orphans) == (2, [])


def test_missing_and_damaged_files_are_found(database: Database, blobs: Blobs, folder: Path, tiny_onnx: bytes) -> None:
    made = succeed(database, blobs, tiny_onnx)
    assert made.model is not None
    keras, onnx = (made.model.formats[kind].sha256 for kind in ("keras", "onnx"))
    (folder / made.id / keras).unlink()
    (folder / made.id / onnx).write_bytes(b"other bytes")
    report = audit(database, blobs)
    assert not report.sound
    assert (report.missing, report.corrupt) == ([(made.id, keras)], [(made.id, onnx)])


def test_orphans_are_found_and_removed_and_nothing_else_is(
    database: Database, blobs: Blobs, folder: Path, tiny_onnx: bytes
) -> None:
    made = succeed(database, blobs, tiny_onnx)
    of_ended = (made.id, blobs.put(made.id, b"left behind"))
    of_deleted = ("01a20f00-0000-7000-8000-000000000000", blobs.put("01a20f00-0000-7000-8000-000000000000", b"gone"))
    report = audit(database, blobs)
    assert report.sound
    assert set(report.orphans) == {of_ended, of_deleted}
    remove_orphans(blobs, report)
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


def test_a_file_whose_writing_was_cut_short_is_an_orphan(
    database: Database, blobs: Blobs, folder: Path, tiny_onnx: bytes
) -> None:
    made = succeed(database, blobs, tiny_onnx)
    cut = folder / made.id / f"{'a' * 64}#1"  # as a killed worker leaves it
    cut.write_bytes(b"half a mod")
    report = audit(database, blobs)
    assert report.orphans == [(made.id, cut.name)]
    remove_orphans(blobs, report)
    assert not cut.exists()
    assert (audit(database, blobs).orphans, audit(database, blobs).sound) == ([], True)


def test_a_file_that_a_running_experiment_may_be_about_to_name_is_left_alone(
    database: Database, blobs: Blobs, folder: Path
) -> None:
    with database.write() as session:
        made = experiments.create(session, Spec(activation="relu", depth=1))
        assert queue.claim(session, owner="one", lease_seconds=60) is not None
    young = blobs.put(made.id, b"a checkpoint, whose row comes next")
    old = blobs.put(made.id, b"a checkpoint of yesterday")
    os.utime(folder / made.id / old, (0, 0))
    assert audit(database, blobs).orphans == [(made.id, old)]
    assert blobs.get(made.id, young)
