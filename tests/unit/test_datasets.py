"""Datasets from every kind of source, verified whatever it is; and one clear error when there is none."""

import gzip
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from service import datasets
from service.datasets import IDX_FILES, Arrays
from service.errors import DatasetUnavailable

NAMES = [field.name for field in fields(Arrays)]


def published(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """A dataset of a few images, which from now on is the right one for every name."""
    draw = np.random.default_rng(0).integers
    arrays = Arrays(
        x_train=draw(0, 256, (50, 28, 28), np.uint8),
        y_train=draw(0, 10, 50, np.uint8),
        x_test=draw(0, 256, (20, 28, 28), np.uint8),
        y_test=draw(0, 10, 20, np.uint8),
    )
    hashes = {name: hashlib.sha256(getattr(arrays, name).tobytes()).hexdigest() for name in NAMES}
    for name in datasets.SHA256:
        monkeypatch.setitem(datasets.SHA256, name, hashes)
    return arrays


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    return published(monkeypatch)


def assert_same(found: Arrays, expected: Arrays) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == np.uint8


def as_npz(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **{name: getattr(arrays, name) for name in NAMES})
    return path


def as_idx(folder: Path, arrays: Arrays, *, packed: Callable[[str], bool] = lambda _: False) -> Path:
    folder.mkdir(exist_ok=True)
    for name, stem in IDX_FILES.items():
        array = getattr(arrays, name)
        data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        if packed(name):
            (folder / f"{stem}.gz").write_bytes(gzip.compress(data, 1))
        else:
            (folder / stem).write_bytes(data)
    return folder


def why_not(folder: Path, path: Path | None = None, name: str = "mnist") -> str:
    with pytest.raises(DatasetUnavailable) as error:
        datasets.load(name, folder, path=path)
    assert not list(folder.glob("*"))
    return str(error.value)


def test_the_real_mnist_is_read_from_a_folder_of_idx_files(tmp_path: Path, mnist: Arrays) -> None:
    source = as_idx(tmp_path / "idx", mnist, packed=lambda name: name.startswith("y"))
    found = datasets.load("mnist", tmp_path / "cache", path=source)
    assert_same(found, mnist)
    assert (found.x_train.shape, found.y_test.shape) == ((60_000, 28, 28), (10_000,))


def test_the_real_mnist_is_read_from_an_npz(tmp_path: Path, mnist: Arrays, mnist_dir: Path) -> None:
    assert_same(datasets.load("mnist", tmp_path / "cache", path=mnist_dir / "mnist.npz"), mnist)


@pytest.mark.parametrize("packed", [lambda _: False, lambda _: True, lambda name: "x" in name])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_may_be_packed_or_not(
    tmp_path: Path, small: Arrays, name: str, packed: Callable[[str], bool]
) -> None:
    assert_same(datasets.load(name, tmp_path / "cache", path=as_idx(tmp_path / "idx", small, packed=packed)), small)


def test_what_was_had_once_needs_no_source_again(tmp_path: Path, small: Arrays) -> None:
    source = as_npz(tmp_path / "source.npz", small)
    datasets.load("mnist", tmp_path / "cache", path=source)
    source.unlink()
    assert_same(datasets.load("mnist", tmp_path / "cache", path=source), small)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["mnist.npz"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other"])
def test_a_damaged_copy_is_replaced_and_told(
    tmp_path: Path, small: Arrays, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = as_npz(tmp_path / "source.npz", small)
    datasets.load("mnist", tmp_path, path=source)
    copy = tmp_path / "mnist.npz"
    good = copy.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    copy.write_bytes({"cut": good[:-100], "flipped": bytes(flipped), "emptied": b"", "other": b"text"}[damage])
    assert caplog.messages == []
    assert_same(datasets.load("mnist", tmp_path, path=source), small)
    assert "is damaged" in caplog.text
    assert copy.read_bytes() == good


def test_what_is_kept_is_read_without_any_source_and_what_is_not_is_not_fetched(tmp_path: Path, small: Arrays) -> None:
    with pytest.raises(DatasetUnavailable, match="no such file"):
        datasets.load_kept("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []
    datasets.load("mnist", tmp_path, path=as_npz(tmp_path / "given.npz", small))
    assert_same(datasets.load_kept("mnist", tmp_path), small)
    (tmp_path / "mnist.npz").write_bytes(b"damaged")
    with pytest.raises(DatasetUnavailable, match=r"no readable \.npz"):
        datasets.load_kept("mnist", tmp_path)


def test_other_arrays_than_the_published_ones_are_refused(tmp_path: Path, small: Arrays) -> None:
    small.x_test[3, 5, 7] ^= 1
    for source in (as_npz(tmp_path / "wrong.npz", small), as_idx(tmp_path / "idx", small)):
        reason = why_not(tmp_path / "cache", source)
        assert str(source) in reason
        assert "x_test has SHA-256" in reason


def broken_sources(folder: Path, arrays: Arrays) -> Iterator[tuple[Path, str]]:
    whole = as_npz(folder / "whole.npz", arrays).read_bytes()
    entry = whole.index(b"PK\1\2")  # in the directory at the end; ten bytes on, how the first file is compressed
    for name, data, reason in (
        ("cut.npz", whole[:-30], "no readable .npz"),
        ("empty.npz", b"", "no readable .npz"),
        ("text.npz", b"text", "no readable .npz"),
        ("other.npz", whole[: entry + 10] + b"\x63\0" + whole[entry + 12 :], "no readable .npz"),
    ):
        (folder / name).write_bytes(data)
        yield folder / name, reason
    np.save(folder / "one.npy", arrays.x_test)
    yield folder / "one.npy", "no readable .npz"
    np.savez(folder / "part.npz", x_train=arrays.x_train)
    yield folder / "part.npz", "no array y_train"
    np.savez(folder / "pickled.npz", x_train=np.array([{}]))
    yield folder / "pickled.npz", "no readable .npz"
    yield folder / "nothing.npz", "no such file"
    for name, keep, reason in (("a", 100, "cut short"), ("b", 6, "no IDX"), ("c", 10, "cut short"), ("d", 0, "no IDX")):
        file = as_idx(folder / name, arrays) / IDX_FILES["x_test"]
        file.write_bytes(file.read_bytes()[:keep])
        yield folder / name, reason
    packed = as_idx(folder / "packed", arrays, packed=lambda _: True) / f"{IDX_FILES['y_train']}.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    yield folder / "packed", "no readable gzip"
    (as_idx(folder / "lacking", arrays) / IDX_FILES["y_test"]).unlink()
    yield folder / "lacking", f"has no {IDX_FILES['y_test']} or "


def test_a_broken_source_is_named_with_what_is_wrong(tmp_path: Path, small: Arrays) -> None:
    for source, reason in broken_sources(tmp_path, small):
        assert f"{source}: " in (text := why_not(tmp_path / "cache", source))
        assert reason in text


def test_many_may_fetch_at_once(tmp_path: Path, small: Arrays) -> None:
    source, cache = as_npz(tmp_path / "source.npz", small), tmp_path / "cache"
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: datasets.load("mnist", cache, path=source), range(32)):
            assert_same(found, small)
    assert [file.name for file in cache.iterdir()] == ["mnist.npz"]


def test_an_unknown_name_is_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mnist, fashion_mnist"):
        datasets.load("cifar10", tmp_path)


def test_what_was_packed_is_unpacked_where_it_is_missing_or_damaged_only(mnist_dir: Path, tmp_path: Path) -> None:
    whole = datasets.packed("mnist", mnist_dir)
    fetched = []

    def fetch() -> bytes:
        fetched.append(1)
        return whole

    for harm in (lambda file: None, lambda file: file.write_bytes(whole[:-100]), Path.unlink):
        datasets.unpack("mnist", tmp_path, fetch)
        datasets.unpack("mnist", tmp_path, fetch)
        assert (tmp_path / "mnist.npz").read_bytes() == whole
        harm(tmp_path / "mnist.npz")
    assert len(fetched) == 2
