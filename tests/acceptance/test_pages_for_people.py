"""The pages on the Python client and the command line: every block runs, in order, against a real service."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from service.commands.application import app
from tests.acceptance.conftest import EPOCHD, serving
from tests.acceptance.test_readme import README, ROOT, code_blocks, section

CLIENT = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
SECONDS = 600
"""For all of a page. A reader waits for some of it too: it trains networks."""


def run_all(command: list[str], work: Path, url: str) -> str:
    done = subprocess.run(
        command,
        cwd=work,
        env=os.environ
        | {"EPOCHD_URL": url, "PATH": f"{Path(EPOCHD).parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.timeout(SECONDS + 100)
def test_the_clients_page_works_when_it_is_pasted_in_order(data_dir: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with serving(data_dir) as service:
        told = run_all(
            [sys.executable, "-W", "error", "-c", "\n".join(code_blocks(CLIENT, "python"))], work, service.url
        )
    assert "(('/activation'," in told.replace("[", "(")
    assert (work / "model.keras").stat().st_size > 10_000
    assert "True True" in told


@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.skipif(not shutil.which("bash"), reason="the page is for bash")
def test_the_page_on_commands_works_when_it_is_pasted_in_order(data_dir: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "epochd-data").mkdir(parents=True)
    shutil.copytree(data_dir / "datasets", work / "epochd-data" / "datasets", copy_function=os.link)
    script = "set -euo pipefail\n" + "".join(code_blocks(COMMANDS, "bash"))
    with serving(data_dir) as service:
        told = run_all(["bash", "-c", script], work, service.url)
    assert "60 experiments: 6 to compare, 10 of each\n" in told
    assert "exit code 3\n" in told
    assert told.count(" succeeded: test accuracy 0.") >= 3
    assert (work / "accuracy.svg").is_file()


def test_the_readme_shows_what_the_pages_show() -> None:
    shown = section(README, "From Python and from a shell")
    assert all(block in CLIENT for block in code_blocks(shown, "python"))
    assert all(line in COMMANDS for block in code_blocks(shown, "bash") for line in block.splitlines())


def test_the_page_names_every_command() -> None:
    root = get_command(app)
    table = COMMANDS.partition("\n## ")[0]
    assert set(re.findall(r"[a-z]+", " ".join(re.findall(r"`([^`]+)`", table)))) >= set(root.commands)  # type: ignore[attr-defined]


WITHOUT_JSON = {
    ("serve",): "runs until it is stopped",
    ("worker",): "runs until it is stopped",
    ("demo",): "is for people to look at",
    ("reproduce",): "writes a page",
}


def test_every_command_that_answers_does_so_in_json_too() -> None:
    def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, one in getattr(command, "commands", {}).items():
            yield from leaves(one, (*path, name))
        if not hasattr(command, "commands"):
            yield path, command

    without = {path for path, one in leaves(get_command(app)) if not any("--json" in p.opts for p in one.params)}
    assert without == set(WITHOUT_JSON)


def test_help_and_the_page_agree_on_exit_codes() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", COMMANDS, re.MULTILINE))
    assert (
        app.info.epilog
        == "Exit codes: "
        + "; ".join(f"{code} {meaning.replace(' on standard error', '')}" for code, meaning in rows.items())
        + "."
    )
