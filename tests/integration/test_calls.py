"""Calls from the database to those who wait for work and for events, and what is done where there are none."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from service.domain.experiment import Spec
from service.store import experiments, queue, schema
from service.store.calls import Calls
from service.store.session import Database
from tests.integration.conftest import out_of_reach

PATIENCE_SECONDS = 30
"""Far longer than a call takes, far shorter than what a test waits without one."""


class Heard:
    """How often it was called."""

    def __init__(self) -> None:
        self.left = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.left += 1
            self._changed.notify_all()

    def within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.left > 0, seconds)

    def next(self) -> None:
        """Wait for a call, and forget it."""
        assert self.within(PATIENCE_SECONDS), "nobody called"
        with self._changed:
            self.left -= 1


@contextlib.contextmanager
def listening(database: Database) -> Iterator[tuple[Calls, Heard]]:
    heard = Heard()
    with contextlib.closing(Calls(database, heard)) as calls:
        calls.start()
        heard.next()  # once when it begins to listen: what was called before is unknown
        assert calls.listening
        yield calls, heard


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    with contextlib.closing(Database(postgres_url)) as database:
        schema.upgrade(database)
        yield database


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'epochd.sqlite3'}")) as database:
        schema.upgrade(database)
        yield database


def create(database: Database) -> str:
    with database.write() as session:
        return experiments.create(session, Spec(activation="relu", depth=1)).id


def test_new_work_calls_once_it_is_committed(postgres_database: Database) -> None:
    with listening(postgres_database) as (_, heard):
        with postgres_database.write() as session:
            experiments.create_many(session, [Spec(activation="relu", depth=1, seed=seed) for seed in range(3)])
            assert not heard.within(0.3)
        heard.next()
        assert not heard.within(0.3)  # once, however many were queued


def test_work_that_comes_back_and_a_cancel_of_running_work_call(postgres_database: Database) -> None:
    experiment_id = create(postgres_database)
    with listening(postgres_database) as (_, heard):
        with postgres_database.write() as session:
            claimed = queue.claim(session, owner="test", lease_seconds=60)
        assert claimed is not None
        with postgres_database.write() as session:
            queue.give_back(session, claimed)
        heard.next()
        with postgres_database.write() as session:
            queue.claim(session, owner="test", lease_seconds=60)
        with postgres_database.write() as session:
            experiments.cancel(session, experiment_id)
        heard.next()


def test_who_listens_does_so_again_after_an_outage(postgres_database: Database) -> None:
    url = postgres_database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with listening(postgres_database) as (calls, heard):
        with out_of_reach(url):
            pass
        heard.next()  # it listens again
        assert calls.listening
        create(postgres_database)
        heard.next()


def test_the_connection_that_listened_is_not_used_for_anything_else(
    postgres_url: str, postgres_database: Database
) -> None:
    with listening(postgres_database) as (calls, _):
        pass
    assert not calls.listening
    with contextlib.closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        (left,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        ).fetchone() or (None,)
    assert left == 0


def test_sqlite_is_left_alone_by_who_looks_often_anyway(sqlite_database: Database) -> None:
    heard = Heard()
    with contextlib.closing(Calls(sqlite_database, heard)) as calls:
        calls.start()
        create(sqlite_database)
        assert not heard.within(0.3)
        assert not calls.listening
