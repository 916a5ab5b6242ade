"""Blobs on a local folder."""

import hashlib
from pathlib import Path

import pytest

from service.errors import BlobCorrupt, BlobMissing, InvalidInput, Unavailable
from service.store.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


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


def test_damage_is_found_when_read(blobs: Blobs, tmp_path: Path) -> None:
    digest = blobs.put("one", b"weights")
    (tmp_path / "blobs" / "one" / digest).write_bytes(b"weighty")
    with pytest.raises(BlobCorrupt):
        blobs.get("one", digest)


def test_deleting_what_is_not_there_is_no_error(blobs: Blobs) -> None:
    blobs.delete("one", "0" * 64)


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    (tmp_path / "blobs" / "one").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        blobs.put("one", b"weights")


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(InvalidInput, match="blob URL"):
        Blobs("gopher://bucket")
