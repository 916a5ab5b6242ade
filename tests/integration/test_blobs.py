"""Blobs in a local folder, and in an object store over HTTP."""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.errors import BlobCorrupt, BlobMissing, InvalidInput, Unavailable
from service.store.blobs import Blobs
from service.store.objects import open_store

LARGE = random.Random(1).randbytes(24_000_000)
"""Sent in parts."""


def test_what_is_put_is_got_by_its_sha256(blobs: Blobs) -> None:
    digest = blobs.put("one", b"weights")
    assert digest == hashlib.sha256(b"weights").hexdigest()
    assert blobs.get("one", digest) == b"weights"
    assert blobs.put("one", b"weights") == digest


def test_each_experiment_has_its_own_copy(blobs: Blobs) -> None:
    digest = blobs.put("one", b"same")
    blobs.put("two", b"same")
    blobs.delete("one", digest)
    assert blobs.get("two", digest) == b"same"
    with pytest.raises(BlobMissing):
        blobs.get("one", digest)


def test_damage_is_found_when_read(blobs: Blobs, blob_url: str) -> None:
    digest = blobs.put("one", b"weights")
    open_store(blob_url).put(f"one/{digest}", b"weighty")
    with pytest.raises(BlobCorrupt):
        blobs.get("one", digest)


def test_every_file_is_listed_with_when_it_was_written(blobs: Blobs) -> None:
    assert blobs.list() == []
    before = datetime.now(UTC) - timedelta(seconds=1)  # object stores count whole seconds
    keys = {(one, blobs.put(one, content)) for one in ("one", "two") for content in (b"keras", b"onnx")}
    found = blobs.list()
    assert {one.key for one in found} == keys
    assert all(before <= one.modified <= datetime.now(UTC) for one in found)


def test_deleting_what_is_not_there_is_no_error(blobs: Blobs) -> None:
    blobs.delete("one", "0" * 64)
    blobs.discard("one", "0" * 64)


def test_a_large_file_is_kept_whole(blobs: Blobs) -> None:
    digest = blobs.put("one", LARGE)
    assert blobs.get("one", digest) == LARGE


def test_what_is_stored_is_there_for_the_next_process(blobs: Blobs, blob_url: str) -> None:
    digest = blobs.put("one", b"weights")
    assert Blobs(blob_url).get("one", digest) == b"weights"


def test_a_folder_that_cannot_be_written_is_unavailable_and_says_why(tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    (tmp_path / "blobs" / "one").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match=r"cannot be written: (Not a directory|File exists)"):
        blobs.put("one", b"weights")


def test_a_folder_that_goes_away_is_told_and_never_made_anew(tmp_path: Path) -> None:
    """A disk that is taken away must not lead to models that are called gone, nor to files beside it."""
    folder = tmp_path / "blobs"
    blobs = Blobs(folder.as_uri())
    digest = blobs.put("one", b"weights")
    away = folder.rename(tmp_path / "away")
    with pytest.raises(Unavailable, match="its folder is not there"):
        blobs.put("one", b"others")
    with pytest.raises(Unavailable, match="its folder is not there"):
        blobs.get("one", digest)
    with pytest.raises(Unavailable, match="its folder is not there"):
        blobs.list()
    with pytest.raises(Unavailable, match="its folder is not there"):
        blobs.delete("one", digest)
    assert not folder.exists()
    away.rename(folder)
    assert blobs.get("one", digest) == b"weights"


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(InvalidInput, match="blob URL"):
        Blobs("gopher://bucket")
