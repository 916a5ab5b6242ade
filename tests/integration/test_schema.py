"""The migrations, on SQLite and PostgreSQL."""

import threading
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, make_url, text

from service.errors import SchemaOutOfDate, Unavailable
from service.store import schema
from service.store.session import Database
from service.store.tables import Base
from tests.conftest import empty_postgres_database


@pytest.fixture
def empty(database_url: str):
    database = Database(database_url)
    yield database
    database.close()


def test_up_down_and_up_again(empty: Database) -> None:
    assert schema.current(empty) is None
    schema.upgrade(empty)
    assert schema.current(empty) == schema.head()
    schema.downgrade(empty, "base")
    assert schema.current(empty) is None
    assert inspect(empty.engine).get_table_names() == ["alembic_version"]
    schema.upgrade(empty)
    assert schema.current(empty) == schema.head()


def test_migrations_give_the_tables_that_the_code_declares(empty: Database) -> None:
    schema.upgrade(empty)
    with empty.engine.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("error")  # an index that cannot be compared would hide a difference
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_revision_has_the_next_number_and_suits_no_version_that_comes_later() -> None:
    """An older process compares these names as text, and knows nothing else of the migration."""
    scripts = [*ScriptDirectory(str(Path(schema.__file__).parents[2] / "migrations")).walk_revisions()][::-1]
    for number, script in enumerate(scripts, 1):
        found = schema.REVISION.fullmatch(script.revision)
        assert found is not None
        assert int(found[1]) == number
        assert found[2] is None or 1 <= int(found[2]) < number


def test_an_empty_database_is_initialised_once_by_many_at_a_time(empty: Database) -> None:
    faults: list[Exception] = []

    def initialise() -> None:
        try:
            schema.initialise(empty)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            faults.append(error)

    threads = [threading.Thread(target=initialise) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert schema.current(empty) == schema.head()


def test_an_older_postgresql_schema_is_left_to_its_operator(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(postgres_url)
    schema.upgrade(database)
    monkeypatch.setattr(schema, "head", lambda: "9999")
    with pytest.raises(SchemaOutOfDate, match="epochd db upgrade"):
        schema.initialise(database)
    database.close()


@pytest.mark.parametrize("url", ["postgresql://nobody:hush@127.0.0.1:1/none", "sqlite:////proc/no/such/folder.sqlite3"])
def test_a_database_that_cannot_be_reached_is_unavailable_and_tells_no_secret(url: str) -> None:
    database = Database(url)
    for act in (schema.current, schema.upgrade, schema.initialise, schema.require_current):
        with pytest.raises(Unavailable) as caught:
            act(database)
        assert "hush" not in str(caught.value)
    database.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"username": "full_locked"}, "it refuses the user or the password"),
        ({"database": "full_locked"}, "the server has no database of this name"),
        ({"username": "stranger"}, "it does not let this user in from this machine"),
        ({"query": {"host": "/no/FATAL/is full/is locked"}}, "it cannot be reached"),
    ],
)
def test_who_is_not_let_in_is_told_why_and_no_name(
    postgres: str, postgres_url: str, wrong: dict[str, Any], told: str
) -> None:
    with closing(psycopg.connect(postgres, autocommit=True)) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'stranger'").fetchone():
            connection.execute("CREATE ROLE stranger LOGIN")
        connection.execute(f"REVOKE CONNECT ON DATABASE {make_url(postgres_url).database} FROM PUBLIC")
    database = Database(make_url(postgres_url).set(**wrong).render_as_string(hide_password=False))
    with pytest.raises(Unavailable) as caught:
        schema.current(database)
    assert str(caught.value) == f"the database cannot be used now: {told}"
    database.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_name_is_refused_with_what_makes_one_that_can(
    postgres: str, encoding: str
) -> None:
    options = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    with empty_postgres_database(postgres, options) as url:
        database = Database(url)
        for act in (schema.upgrade, schema.initialise, schema.require_current):
            with pytest.raises(Unavailable, match=f"encoding is {encoding}, .* createdb --encoding=UTF8"):
                act(database)
        database.close()


def test_a_client_encoding_in_the_environment_changes_no_name(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = Database(postgres_url)
    with database.read() as session:
        assert session.execute(text("SELECT CAST(:name AS text)"), {"name": "名前 🙂"}).scalar() == "名前 🙂"
    database.close()


def test_a_server_that_only_reads_such_as_a_standby_is_told_as_such(postgres: str, postgres_url: str) -> None:
    database = Database(postgres_url)
    schema.upgrade(database)
    database.close()
    with closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute(f"ALTER DATABASE {make_url(postgres_url).database} SET default_transaction_read_only = on")
    with pytest.raises(Unavailable, match="now: it cannot be written"), database.write() as session:
        session.execute(text("DELETE FROM experiments"))
    database.close()


def test_a_database_of_a_newer_version_is_told_as_such(empty: Database) -> None:
    schema.upgrade(empty)
    with empty.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (schema.upgrade, schema.initialise, schema.require_current):
        with pytest.raises(SchemaOutOfDate, match="a newer epochd is needed"):
            act(empty)


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "epochd.sqlite3").write_bytes(b"this is no database, whatever its name says " * 50)
    database = Database(f"sqlite:///{tmp_path / 'epochd.sqlite3'}")
    with pytest.raises(Unavailable, match="none of SQLite's"):
        schema.initialise(database)
    database.close()


@pytest.mark.parametrize("since", ["0001", schema.head()[:4]])
def test_a_newer_schema_that_suits_this_version_is_used_and_left_as_it_is(empty: Database, since: str) -> None:
    schema.upgrade(empty)
    newer = f"9999_since_{since}"
    with empty.write() as session:
        session.execute(text(f"UPDATE alembic_version SET version_num = '{newer}'"))
    for act in (schema.upgrade, schema.initialise, schema.require_current):
        act(empty)
    assert schema.current(empty) == newer


@pytest.mark.parametrize("newer", ["9999_since_9998", "9999_since_", "since_0001", "abcd_since_0001"])
def test_a_newer_schema_for_later_versions_or_of_a_strange_name_is_refused(empty: Database, newer: str) -> None:
    schema.upgrade(empty)
    with empty.write() as session:
        session.execute(text(f"UPDATE alembic_version SET version_num = '{newer}'"))
    for act in (schema.upgrade, schema.initialise, schema.require_current):
        with pytest.raises(SchemaOutOfDate, match="a newer epochd is needed"):
            act(empty)


def test_a_migration_gives_up_rather_than_hold_up_everybody_behind_a_long_transaction(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_url)
    schema.upgrade(database, "0006")
    monkeypatch.setattr(schema, "LOCK_SECONDS", 0.2)
    with database.snapshot() as connection:
        connection.execute(text("SELECT * FROM experiments"))
        with pytest.raises(Unavailable, match="locked"):
            schema.upgrade(database)
    schema.upgrade(database)
    assert schema.current(database) == schema.head()
    database.close()
