"""What a process leaves when it is killed, and who removes it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.processes import LOCKED, OwnFolder

PREFIX = "epochd-tested-"
OF_ANOTHER = (
    "import sys, tempfile\n"
    "from service.processes import LOCKED, OwnFolder\n"
    "tempfile.tempdir = sys.argv[1]\n"
    f"one = OwnFolder({PREFIX!r})\n"
    "(one.path / 'file').write_text('x')\n"
    "print(one.path, flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def another(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder that was made long ago."""
    process = subprocess.Popen(
        [sys.executable, "-c", OF_ANOTHER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    os.utime(path, (0, 0))
    return process, path


def test_a_folder_goes_when_it_is_removed() -> None:
    one = OwnFolder(PREFIX)
    (one.path / "file").write_text("x")
    assert one.path.stat().st_mode & 0o077 == 0
    one.remove()
    assert not one.path.exists()


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    process, path = another(tmp_path)
    with process:
        OwnFolder(PREFIX).remove()
        assert (path / "file").exists()
        process.kill()
        process.wait()
        OwnFolder("epochd-others-").remove()
        assert (path / "file").exists()
        OwnFolder(PREFIX).remove()
    assert list(tmp_path.iterdir()) == []


def test_what_was_just_made_or_is_no_folder_stays(tmp_path: Path) -> None:
    young = tmp_path / f"{PREFIX}{LOCKED}young"
    young.mkdir()
    file = tmp_path / f"{PREFIX}{LOCKED}file"
    file.touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / f"{PREFIX}{LOCKED}link"
    link.symlink_to(elsewhere)
    pipe = tmp_path / f"{PREFIX}{LOCKED}pipe"  # whoever opened it would wait for its other end
    os.mkfifo(pipe)
    for path in (file, link, elsewhere, pipe):
        os.utime(path, (0, 0), follow_symlinks=False)
    OwnFolder(PREFIX).remove()
    assert all(map(os.path.lexists, (young, elsewhere, file, link, pipe)))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make what is somebody else's")
def test_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    theirs = tmp_path / f"{PREFIX}{LOCKED}theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, -1)
    os.utime(theirs, (0, 0))
    OwnFolder(PREFIX).remove()
    assert theirs.exists()


def test_a_process_that_was_given_the_locks_keeps_the_folder_when_its_maker_is_gone(tmp_path: Path) -> None:
    one = OwnFolder(PREFIX)
    os.utime(one.path, (0, 0))
    heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=one.locks)
    with heir:
        (lock,), one._lock = one.locks, None
        os.close(lock)  # as the kernel does for a maker that is killed
        OwnFolder(PREFIX).remove()
        assert one.path.exists()
        heir.kill()
        heir.wait()
        OwnFolder(PREFIX).remove()
        assert not one.path.exists()
    one.remove()


def test_removing_a_folder_twice_closes_nothing_that_has_come_since(tmp_path: Path) -> None:
    one = OwnFolder(PREFIX)
    one.remove()
    with (tmp_path / "file").open("w") as file:
        one.remove()
        file.write("x")


def test_what_an_earlier_version_made_which_locked_nothing_stays_while_both_run(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as theirs:
        os.utime(theirs, (0, 0))
        OwnFolder(PREFIX).remove()
        assert Path(theirs).exists()
