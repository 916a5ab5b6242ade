"""Three versions of epochd, one after the other, on one database under load: no request fails, and nothing is lost.

The versions are copies of the code with a migration more each. The second only adds to the schema (expand), so that the
first goes on beside it. The third takes away what the first needs (contract).
"""

import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.store import schema
from tests.acceptance.conftest import EPOCHD
from tests.acceptance.test_outages import DEADLINE_SECONDS, Part, eventually

ROOT = Path(__file__).parents[2]
NUMBER = int(schema.head()[:4])
FIRST, SECOND, THIRD = schema.head(), f"{NUMBER + 1:04}_since_{NUMBER:04}", f"{NUMBER + 2:04}_since_{NUMBER + 1:04}"
COLUMN = "    retry_of: Mapped[str | None] = mapped_column(String(36))\n"
NEW_COLUMN = '    note: Mapped[str] = mapped_column(String(36), default="written by the second version")\n'
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {before!r}


def upgrade() -> None:
    {upgrade}
"""
EXPAND = 'op.add_column("experiments", sa.Column("note", sa.String(36)))'
CONTRACT = """op.execute("UPDATE experiments SET note = '' WHERE note IS NULL")
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER note BEFORE INSERT ON experiments WHEN NEW.note IS NULL "
            "BEGIN SELECT RAISE(ABORT, 'a note is missing'); END"
        )
    else:
        op.alter_column("experiments", "note", nullable=False)"""
WORK = """
from pathlib import Path
from service.engines.local import LocalEngine
from service.settings import Settings
from service.worker import process
process._engine = lambda settings: LocalEngine(data_dir=Path("."), stall_seconds=600, trainer="tests.trainers")
process.work(Settings())
"""
"""`epochd worker`, but for what its trainers do: nothing here depends on that."""
BRISK = {"EPOCHD_POLL_SECONDS": "0.05", "EPOCHD_LEASE_SECONDS": "30", "EPOCHD_SLOTS": "2", "EPOCHD_MAX_STACK": "1"}


class Version:
    """The code of one version, and its processes on a database."""

    def __init__(self, code: Path, home: Path, database_url: str) -> None:
        self._environment = os.environ | BRISK | {
            "PYTHONPATH": os.pathsep.join([str(code), str(ROOT)]),
            "PYTHONSAFEPATH": "1",
            "EPOCHD_DATABASE_URL": database_url,
            "EPOCHD_DATA_DIR": str(home),
        }  # fmt: skip

    def work(self) -> Part:
        return Part(environment=self._environment, on=[sys.executable, "-c", WORK])

    def serve(self) -> Part:
        return Part("serve", "--no-worker", "--port", "0", environment=self._environment)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [EPOCHD, *arguments], env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=DEADLINE_SECONDS,
        )  # fmt: skip


def address(api: Part) -> str:
    return next(word for word in api.says("epochd is ready").split() if word.startswith("http://"))


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The code of the three versions, the present one first."""
    folders = [ROOT]
    changes = [(SECOND, FIRST, EXPAND), (THIRD, SECOND, CONTRACT)]
    for number in (1, 2):
        folder = tmp_path_factory.mktemp("code")
        for name in ("service", "migrations"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        tables = folder / "service" / "store" / "tables.py"
        text = tables.read_text()
        assert text.count(COLUMN) == 1
        tables.write_text(text.replace(COLUMN, COLUMN + NEW_COLUMN))
        for revision, before, upgrade in changes[:number]:
            made = MIGRATION.format(revision=revision, before=before, upgrade=upgrade)
            (folder / "migrations" / "versions" / f"{revision}.py").write_text(made)
        folders.append(folder)
    return folders


class Load:
    """Clients behind a balancer, which sends requests to one API. Every answer must be a good one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.created: list[str] = []
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(2)
        self._clients: list[Future[None]] = [self._pool.submit(self._run) for _ in range(2)]

    def _run(self) -> None:
        with httpx.Client(timeout=30) as http:
            for number in itertools.count():
                if self._over.wait(0.02):
                    return
                url = self.url
                spec = {"activation": "relu", "depth": 1, "epochs": 2, "seed": number, "tags": ["load"]}
                queued = http.post(f"{url}/experiments", json=spec).raise_for_status().json()
                self.created.append(queued["id"])
                for path in (f"/experiments/{queued['id']}", "/experiments?limit=5", "/health/ready"):
                    http.get(f"{url}{path}").raise_for_status()

    def goes_on(self, more: int = 6) -> None:
        """Wait until that many experiments more were queued."""
        wanted = len(self.created) + more
        eventually(lambda: len(self.created) >= wanted or any(one.done() for one in self._clients), "more load")

    def stop(self) -> None:
        self._over.set()
        for one in self._clients:
            one.result(DEADLINE_SECONDS)
        self._pool.shutdown()


@pytest.fixture
def versions(code: list[Path], database_url: str, tmp_path: Path) -> list[Version]:
    return [Version(folder, tmp_path / "data", database_url) for folder in code]


@pytest.fixture
def parts() -> Iterator[list[Part]]:
    """What a test starts: it is gone afterwards."""
    found: list[Part] = []
    yield found
    for part in reversed(found):
        if part.process.poll() is None:
            part.stop()


def test_two_versions_work_side_by_side_until_the_schema_contracts(
    versions: list[Version], parts: list[Part], database_url: str
) -> None:
    first, second, third = versions
    parts += [first.serve(), first.work()]
    load = Load(address(parts[0]))
    try:
        long = {"activation": "relu", "depth": 1, "name": "waits", "priority": 10}
        waits = httpx.post(f"{load.url}/experiments", json=long).raise_for_status().json()["id"]
        load.goes_on()
        if database_url.startswith("postgresql"):  # a SQLite file is upgraded by whoever starts
            refused = second.run("serve", "--no-worker", "--port", "0")
            assert (refused.returncode, "epochd db upgrade" in refused.stderr) == (1, True)

        assert second.run("db", "upgrade").stdout == f"the database is at revision {SECOND}, from {FIRST}\n"
        load.goes_on()
        # A process of the first version may also start again, and one that upgrades finds nothing to do.
        assert first.run("db", "upgrade").stdout == f"the database is at revision {SECOND} already\n"
        parts.append(first.serve())
        load.url = address(parts[-1])
        load.goes_on()

        parts += [second.serve(), second.work()]
        load.url = address(parts[-2])
        load.goes_on()
        for part in parts[:3]:
            assert part.stop() in {0, -15}
        load.goes_on()

        assert third.run("db", "upgrade").stdout == f"the database is at revision {THIRD}, from {SECOND}\n"
        load.goes_on()
        refused = first.run("serve", "--no-worker", "--port", "0")
        assert (refused.returncode, "a newer epochd is needed" in refused.stderr) == (1, True)
    finally:
        load.stop()
    every_experiment_has_ended(load, waits)


def every_experiment_has_ended(load: Load, waits: str) -> None:
    with httpx.Client(base_url=load.url, timeout=30) as http:

        def get(experiment_id: str) -> dict[str, Any]:
            found: dict[str, Any] = http.get(f"/experiments/{experiment_id}").raise_for_status().json()
            return found

        assert len(set(load.created)) == len(load.created) >= 36
        for experiment_id in load.created:
            eventually(lambda one=experiment_id: get(one)["finished_at"] is not None, "the end")  # type: ignore[misc]
            found = get(experiment_id)
            assert (found["status"], found["attempt"]) == ("succeeded", 1), found
        # It ran all the while: the first version's worker gave it to the second's.
        found = get(waits)
        assert (found["status"], found["attempt"]) == ("running", 2)
        http.post(f"/experiments/{waits}/cancel").raise_for_status()
        eventually(lambda: get(waits)["status"] == "cancelled", "the cancel")
