"""`make setup` on a machine that has only Python and make, and on one whose network is broken."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def checkout(folder: Path) -> Path:
    """What `make setup` reads, and nothing that it makes."""
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("scripts", "requirements", "service", "migrations"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def make(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        ["make", "setup"],
        cwd=folder,
        env=kept | {"HOME": str(folder), "PYTHON": sys.executable} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.stem for lock in LOCKS])
def test_locks_pin_every_package_with_hashes_and_name_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^--?(index|extra-index|find-links|i |f )", text, re.MULTILINE)
    packages = re.findall(r"^[a-zA-Z0-9].*$", text, re.MULTILINE)
    assert packages
    for package in packages:
        assert re.match(r"^[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+( ; .+)? \\$", package), package
    for block in re.split(r"\n(?=[a-zA-Z0-9])", text)[1:]:
        assert "--hash=sha256:" in block


def test_tensorflow_is_the_cpu_build_on_intel_linux_and_the_plain_one_elsewhere() -> None:
    text = (ROOT / "requirements" / "train.txt").read_text()
    assert re.search(r"^tensorflow-cpu==\S+ ; platform_machine == 'x86_64' and sys_platform == 'linux'", text, re.M)
    assert re.search(r"^tensorflow==\S+ ; platform_machine != 'x86_64' or sys_platform != 'linux'", text, re.M)
    assert "tensorflow" not in (ROOT / "requirements" / "base.txt").read_text()


def test_a_broken_network_is_one_clear_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "epochd")
    done = make(folder, PIP_INDEX_URL="http://127.0.0.1:1/simple", PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull)
    assert done.returncode != 0
    complaint = [line for line in done.stderr.splitlines() if line.startswith("setup: ")]
    assert len(complaint) == 1
    assert "Is the package index reachable?" in complaint[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_python_that_is_too_old_or_missing_is_one_clear_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "epochd")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "make", "cat", "cksum", "tr", "grep", "rm", "printf"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    done = make(folder, PATH=str(tools), PYTHON="")
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13" in done.stderr


def test_a_set_up_checkout_is_left_alone_at_once(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "epochd")
    (folder / ".venv").mkdir()
    name = subprocess.run(
        "cat requirements/train.txt pyproject.toml | cksum | tr -d ' \\t'",
        shell=True, cwd=folder, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (folder / ".venv" / f".train-{name}").touch()
    before = sorted(folder.rglob("*"))
    done = make(folder, PIP_INDEX_URL="http://127.0.0.1:1/simple")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(folder.rglob("*")) == before
