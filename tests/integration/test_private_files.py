"""What is written is for its owner alone, whatever the umask of whoever starts it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import datasets
from service.main import open_ports
from service.settings import Settings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")


@pytest.fixture
def careless() -> Iterator[None]:
    """A umask that lets everybody do everything."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): stat.filemode(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}


@pytest.mark.usefixtures("careless")
def test_the_database_and_the_folders_of_files_are_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with open_ports(Settings(data_dir=data_dir)) as ports:
        found = modes(data_dir)
        assert found.pop(".") == found.pop("blobs") == "drwx------"
        assert set(found.values()) == {"-rw-------"}
        assert {"epochd.sqlite3", "epochd.sqlite3-wal"} <= found.keys()
        ports.blobs.put("one", b"a model")
    assert modes(data_dir)["blobs"] == "drwx------"  # so nobody else comes to what is in it


@pytest.mark.usefixtures("careless")
def test_a_dataset_is_public_but_its_folders_are_not(tmp_path: Path, mnist_dir: Path) -> None:
    datasets.load("mnist", tmp_path / "data" / "datasets", path=mnist_dir / "mnist.npz")
    assert modes(tmp_path / "data") == {
        ".": "drwx------",
        "datasets": "drwx------",
        "datasets/mnist.npz": "-rw-r--r--",  # to be mounted into other users' containers
    }
