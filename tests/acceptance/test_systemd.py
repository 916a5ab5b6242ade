"""The units for a bare machine, as systemd reads them. None is started here: that takes systemd as process 1."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
COMMAND = "/opt/epochd/bin/epochd"
EPOCHD = str(Path(sys.executable).with_name("epochd"))
EXPOSURE = 20
"""Of `systemd-analyze security`, in tenths: 10.0 is a service without any protection."""

analyze = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(analyze is None, reason="there is no systemd-analyze: Debian's package systemd")


def units(kind: str) -> list[Path]:
    return sorted(FOLDER.glob(f"*.{kind}"))


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, with the command where it is on this machine."""
    folder = tmp_path_factory.mktemp("units")
    for unit in [*units("service"), *units("timer")]:
        name = unit.name.replace("@.", "@1.")
        (folder / name).write_text(unit.read_text().replace(COMMAND, EPOCHD))
    return folder


@needs_systemd
def test_systemd_understands_every_unit(installed: Path) -> None:
    done = subprocess.run(
        [str(analyze), "verify", "--man=no", *sorted(installed.iterdir())], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", [unit.name.replace("@.", "@1.") for unit in units("service")])
def test_a_service_can_do_little_else_than_its_work(name: str, installed: Path) -> None:
    done = subprocess.run(
        [str(analyze), "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", installed / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", units("service"), ids=lambda unit: unit.name)
def test_a_service_is_nobody_and_runs_a_command_that_exists(unit: Path) -> None:
    assert values(unit, "User") == ["epochd"]
    assert values(unit, "ProtectSystem") == ["strict"]
    assert values(unit, "NoNewPrivileges") == ["yes"]
    assert values(unit, "MemoryMax")
    (line,) = values(unit, "ExecStart")
    words = shlex.split(line)
    if words[0] == "/bin/sh":
        words = shlex.split(words[2])
    arguments = words[words.index(COMMAND) + 1 :]
    command = [word for word in arguments[:2] if re.fullmatch("[a-z]+", word)]
    done = subprocess.run([EPOCHD, *command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert all(option in done.stdout for option in arguments if option.startswith("--"))


def test_services_have_time_to_end() -> None:
    (worker,) = values(FOLDER / "epochd-worker@.service", "TimeoutStopSec")
    assert float(worker) > 2 * Settings().drain_seconds
    (api,) = values(FOLDER / "epochd-api.service", "TimeoutStopSec")
    assert float(api) > 2 * 3


def test_every_timer_has_its_service() -> None:
    assert {unit.stem for unit in units("timer")} == {"epochd-backup", "epochd-gc", "epochd-prune"}
    assert all(unit.with_suffix(".service").exists() for unit in units("timer"))


def test_the_example_of_settings_names_those_that_exist() -> None:
    names = re.findall(r"^#?(EPOCHD_\w+)=", (FOLDER / "epochd.env.example").read_text(), re.MULTILINE)
    assert names
    assert {name.removeprefix("EPOCHD_").lower() for name in names} <= Settings.model_fields.keys()
