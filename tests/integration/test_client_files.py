"""Files that a client writes: whole or not at all, through links, and into devices."""

import os
import stat
import threading
from pathlib import Path

import pytest

from service.client.files import whole_file


def write(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with whole_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_file_stays_as_it_is_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("old", [b"old", None])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path, old: bytes | None) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    if old is not None:
        target.write_bytes(old)
    link.symlink_to("target")
    write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=write, args=(path, b"through"))
    writer.start()
    assert path.read_bytes() == b"through"
    writer.join()
    assert path.is_fifo()


def test_a_device_that_is_full_is_an_error_and_stays_a_device() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()


def test_an_error_names_the_path_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        write(tmp_path / "no" / "file", b"x")
    assert raised.value.filename == str(tmp_path / "no" / "file")
    with pytest.raises(IsADirectoryError):
        write(tmp_path, b"x")
