"""Whatever is killed while it trains, an experiment ends with the bits of one that nobody disturbed."""

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.acceptance.test_outages import DEADLINE_SECONDS, Event, MortalPostgres, Site, started

EPOCHS = 6
SPEC = {"activation": "relu", "depth": 2, "units": 128, "batch_size": 200, "epochs": EPOCHS}
ENVIRONMENT = {"EPOCHD_CHECKPOINT_SECONDS": "0", "EPOCHD_LEASE_SECONDS": "2"}

# The database itself writes down every checkpoint that a row ever named, so that none is missed in between looks.
WATCH = {
    "sqlite": """
        CREATE TABLE watched (number INTEGER PRIMARY KEY, id TEXT, attempt INTEGER, epoch INTEGER);
        CREATE TRIGGER watch AFTER UPDATE OF checkpoint_epoch ON experiments WHEN NEW.checkpoint_epoch IS NOT NULL
        BEGIN
            INSERT INTO watched (id, attempt, epoch) VALUES (NEW.id, NEW.attempt, NEW.checkpoint_epoch);
        END;
    """,
    "postgresql": """
        CREATE TABLE watched (number SERIAL PRIMARY KEY, id TEXT, attempt INTEGER, epoch INTEGER);
        CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO watched (id, attempt, epoch) VALUES (NEW.id, NEW.attempt, NEW.checkpoint_epoch);
            RETURN NULL;
        END $$;
        CREATE TRIGGER watch AFTER UPDATE OF checkpoint_epoch ON experiments FOR EACH ROW
        WHEN (NEW.checkpoint_epoch IS NOT NULL) EXECUTE FUNCTION watch();
    """,
}
WATCHED = "SELECT id, attempt, epoch FROM watched ORDER BY number"


class System:
    """A site with one worker, on a database that watches checkpoints, and what an undisturbed run gave there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._query(WATCH[site.database_url.split(":")[0]])
        self.worker = site.work()
        undisturbed = site.succeeded(site.create(SPEC))
        assert undisturbed["attempt"] == 1
        self.expected = self.outcome(undisturbed)

    def _query(self, sql: str) -> list[Any]:
        url = self.site.database_url
        if url.startswith("sqlite"):
            with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as connection:
                if sql == WATCHED:
                    return connection.execute(sql).fetchall()
                connection.executescript(sql)
                return []
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if sql == WATCHED else []

    def checkpoints(self, experiment_id: str) -> list[tuple[int, int]]:
        """Every checkpoint ever made of an experiment: the attempt that made it, and its epoch."""
        return [(attempt, epoch) for id_, attempt, epoch in self._query(WATCHED) if id_ == experiment_id]

    def outcome(self, found: dict[str, Any]) -> dict[str, Any]:
        """What must be the same in every run: all but the clock."""
        metrics = self.site.insist("GET", f"/experiments/{found['id']}/metrics")
        told = [data for _, kind, data in self.site.events(found["id"]) if kind == "epoch"]
        return {
            "weights": found["model"]["weights_sha256"],
            "test": metrics["test"],
            "epochs": [epoch | {"seconds": None} for epoch in metrics["epochs"]],
            "told": [epoch | {"seconds": None} for epoch in told],
        }

    def kill_trainer(self) -> list[psutil.Process]:
        """SIGKILL. Returns what must be gone afterwards, as the other kills do."""
        (trainer,) = self.worker.below()
        trainer.kill()
        return [trainer]

    def kill_worker(self) -> list[psutil.Process]:
        below = self.worker.below()
        self.worker.kill()
        self.worker = self.site.work()
        return below

    def kill_service(self) -> list[psutil.Process]:
        below = [*self.worker.below(), *self.site.api.below()]
        for part in (self.site.api, self.worker):
            part.process.kill()
        for part in (self.site.api, self.worker):
            part.process.wait()
        self.site.serve()
        self.worker = self.site.work()
        return below


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[Callable[[str], System]]:
    """One of each kind for all tests here, in any order: the undisturbed run is the same for all."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def system(kind: str) -> System:
            folder = tmp_path_factory.mktemp("resume")
            (folder / "datasets").mkdir()
            (folder / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
            url = f"sqlite:///{folder / 'epochd.sqlite3'}"
            if kind == "postgresql":
                server = MortalPostgres()
                stack.callback(server.close)
                url = server.url
            return System(stack.enter_context(started(folder, url, **ENVIRONMENT)))

        yield system


@pytest.fixture
def system(request: pytest.FixtureRequest, systems: Callable[[str], System]) -> System:
    return systems(request.param)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_SECONDS)
    return not alive


def check_resumed(system: System, experiment_id: str, reason: str) -> None:
    """It was interrupted once, for this reason; it went on from its checkpoint; and nobody can tell by its result."""
    found = system.site.succeeded(experiment_id)
    assert found["attempt"] == 2
    assert system.outcome(found) == system.expected
    events = system.site.events(experiment_id)
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    assert statuses(events) == [
        ("queued", 0, None),
        ("running", 1, None),
        ("queued", 1, reason),
        ("running", 2, None),
        ("succeeded", 2, None),
    ]
    assert [kind for _, kind, _ in events].count("done") == 1
    assert events[-1][1] == "done"
    # An attempt that had begun anew would have made the first checkpoints again.
    made = system.checkpoints(experiment_id)
    assert [epoch for _, epoch in made] == list(range(1, EPOCHS))
    assert [attempt for attempt, _ in made] == sorted(attempt for attempt, _ in made)
    assert {attempt for attempt, _ in made} == {1, 2}


def statuses(events: list[Event]) -> list[tuple[str, int, str | None]]:
    return [(data["status"], data["attempt"], data.get("reason")) for _, kind, data in events if kind == "status"]


# Every fault on each database: `test_chaos.py`. Here each is looked at closely, once.
@pytest.mark.parametrize(
    ("system", "kill", "reason"),
    [
        pytest.param("sqlite", System.kill_trainer, "the trainer ended by signal 9", id="trainer-sqlite"),
        pytest.param("postgresql", System.kill_worker, "lease_expired", id="worker-postgresql"),
        pytest.param("sqlite", System.kill_service, "lease_expired", id="service-sqlite"),
    ],
    indirect=["system"],
)
def test_a_killed_experiment_goes_on_from_its_checkpoint_and_ends_with_the_same_bits(
    system: System, kill: Callable[[System], list[psutil.Process]], reason: str
) -> None:
    created = system.site.create(SPEC)
    system.site.reaches(created, 2)
    below = kill(system)
    assert below
    check_resumed(system, created, reason)
    assert gone(below)


@pytest.mark.parametrize("system", ["postgresql"], indirect=True)
def test_drained_work_is_taken_by_another_worker_at_once_though_its_lease_is_long(system: System) -> None:
    """The lease would last for an hour: had anybody to wait for it, this test would not end in time."""
    assert system.worker.stop() == 0
    first = system.site.work(EPOCHD_LEASE_SECONDS="3600")
    created = system.site.create(SPEC)
    system.site.reaches(created, 2)
    below = first.below()
    system.worker = system.site.work()
    assert first.stop() == 0
    check_resumed(system, created, "drained")
    assert gone(below)
