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
    for path in (file, link, elsewhere):
        os.utime(path, (0, 0), follow_symlinks=False)
    OwnFolder(PREFIX).remove()
    assert all(map(os.path.lexists, (young, elsewhere, file, link)))


def test_what_an_earlier_version_made_which_locked_nothing_stays_while_both_run(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as theirs:
        os.utime(theirs, (0, 0))
        OwnFolder(PREFIX).remove()
        assert Path(theirs).exists()
