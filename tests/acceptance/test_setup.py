"""`make setup` on a machine that has only Python and make, and on one whose network is broken."""

import os
import re
import shlex
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


@pytest.mark.parametrize(
    ("told", "uv", "by"),
    [
        ("", "exit 0", ["uv"]),
        ("global.extra-index-url='https://more'\n:env:.cert='/a'", "exit 0", ["uv"]),
        ("global.index-url='https://mirror'", "exit 0", ["pip"]),
        (":env:.no-index='1'", "exit 0", ["pip"]),
        ("", "exit 2", ["uv", "pip"]),
    ],
    ids=["nothing", "more indexes", "an index", "no index", "uv fails"],
)
def test_packages_are_installed_by_uv_unless_only_pip_knows_from_where(
    tmp_path: Path, told: str, uv: str, by: list[str]
) -> None:
    assert [call.split()[0] for call in installs(tmp_path / "epochd", uv, TOLD=told)] == by


def test_what_python_may_not_compile_when_it_starts_is_compiled_before(tmp_path: Path) -> None:
    (usually,) = installs(tmp_path / "usual", "exit 0")
    (told,) = installs(tmp_path / "told", "exit 0", PYTHONDONTWRITEBYTECODE="1")
    assert "--compile-bytecode" not in usually
    assert "--compile-bytecode" in told


def installs(folder: Path, uv: str, **environment: str) -> list[str]:
    """How `make setup` calls uv, which does this, and pip to install what is locked."""
    commands = checkout(folder) / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "python").write_text(
        '#!/bin/sh\ncase "$*" in *config*) echo "$TOLD" ;; *train.txt) echo pip >> "$CALLS" ;; esac\n'
    )
    (commands / "uv").write_text(f'#!/bin/sh\necho uv "$@" >> "$CALLS"\n{uv}\n')
    for name in ("python", "uv"):
        (commands / name).chmod(0o755)
    done = make(folder, CALLS=str(folder / "calls"), **{"TOLD": "", **environment})
    assert done.returncode == 0, done.stderr
    return (folder / "calls").read_text().splitlines()


FOUND = 'test "$1" = :lang=ja && echo a-font'


def browser(folder: Path, **commands: str) -> tuple[list[str], list[str]]:
    """Run scripts/browser.sh where only these commands exist: what it says, and how it calls apt-get."""
    folder.mkdir()
    for name in ("sh", "mktemp", "rm", "cat"):
        (folder / name).symlink_to(shutil.which(name) or "")
    calls = folder / "calls"
    calls.touch()
    for name, script in commands.items():
        file = folder / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    done = subprocess.run(
        [str(folder / "sh"), str(ROOT / "scripts" / "browser.sh")],
        env={"PATH": str(folder), "CALLS": str(calls), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr.splitlines(), calls.read_text().splitlines()


APT = 'echo "$@" >> "$CALLS"'


@pytest.mark.parametrize("name", ["chromium", "google-chrome"])
def test_a_browser_that_is_there_is_enough(tmp_path: Path, name: str) -> None:
    assert browser(tmp_path / "bin", **{name: "exit 0", "fc-list": FOUND, "apt-get": APT, "id": "echo 0"}) == ([], [])


@pytest.mark.parametrize("commands", [{"id": "echo 0"}, {"id": "echo 1000", "apt-get": APT}], ids=["no apt", "no root"])
def test_where_no_browser_may_be_installed_one_line_says_so(tmp_path: Path, commands: dict[str, str]) -> None:
    (line,), calls = browser(tmp_path / "bin", **commands)
    assert "the page's tests are skipped" in line
    assert calls == []


def test_root_gets_a_browser_and_a_font(tmp_path: Path) -> None:
    chromium = shlex.quote(str(tmp_path / "bin" / "chromium"))
    install = f'{APT}; case "$*" in *install*) echo exit 0 > {chromium}; chmod 755 {chromium};; esac'
    chmod = shutil.which("chmod")
    (line,), (update, asked) = browser(tmp_path / "bin", id="echo 0", apt_get=install, chmod=f'exec {chmod} "$@"')
    assert "installing" in line
    assert update.endswith("update")
    assert asked.endswith("chromium fonts-ipafont-gothic")


def test_an_install_that_fails_stops_nothing(tmp_path: Path) -> None:
    (_, line), _ = browser(tmp_path / "bin", **{"id": "echo 0", "apt-get": "echo broken; exit 100"})
    assert "could not be installed" in line
