"""What a connection to PostgreSQL brings along."""

import contextlib
import os
import signal
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from service.errors import Unavailable
from service.store import patience
from service.store.session import Database


def test_a_host_that_is_cut_off_in_a_transaction_does_not_hold_its_locks_for_long(postgres_url: str) -> None:
    with contextlib.closing(Database(postgres_url)) as database, database.write() as session:
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "15s"


@contextlib.contextmanager
def frozen(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def ask_one_that_freezes(database: Database, act: str) -> None:
    with getattr(database, act)() as session, frozen(session.scalar(text("SELECT pg_backend_pid()"))):
        session.execute(text("SELECT 1"))


@pytest.mark.parametrize("act", ["read", "write"])
def test_a_server_that_is_frozen_is_given_up_and_met_again(
    postgres_url: str, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.session.POSTGRES_ANSWER_SECONDS", 1.0)
    with contextlib.closing(Database(postgres_url)) as database:
        for _ in range(2):
            with pytest.raises(Unavailable, match="no answer"):
                ask_one_that_freezes(database, act)
            with database.read() as session:
                assert session.scalar(text("SELECT 1")) == 1


def test_a_connection_that_was_frozen_in_the_pool_is_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.session.POSTGRES_ANSWER_SECONDS", 1.0)
    with contextlib.closing(Database(postgres_url)) as database:
        with database.read() as session:
            process = session.scalar(text("SELECT pg_backend_pid()"))
        with frozen(process), database.read() as session:
            assert session.scalar(text("SELECT pg_backend_pid()")) != process


def test_what_is_known_to_take_long_is_waited_for(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.session.POSTGRES_ANSWER_SECONDS", 0.2)
    slow = text("SELECT pg_sleep(1)")
    with contextlib.closing(Database(postgres_url)) as database:
        with database.read(unhurried=True) as session:
            session.execute(slow)
        for begin in (database.connection, database.snapshot):
            with begin() as connection:
                connection.execute(slow)
        with pytest.raises(Unavailable, match="no answer"), database.read() as session:
            session.execute(slow)


def test_an_error_that_the_server_tells_keeps_the_connection(postgres_url: str) -> None:
    with contextlib.closing(patience.ImpatientConnection.connect(postgres_url, autocommit=True)) as connection:
        connection.answer_seconds = 30
        connection.execute("SET statement_timeout = '10ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        assert not connection.closed
