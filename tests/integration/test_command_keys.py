"""`epochd keys`, in this process: what it takes, and what it refuses."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.commands.keys import app
from service.errors import EpochdError, InvalidInput, KeyNameTaken, KeyNotFound
from service.store import schema
from service.store.session import Database

Ask = Callable[..., Any]
CREATE = ("create", "--name", "a", "--scope", "read")


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("EPOCHD_DATA_DIR", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        ("never", None),
        ("2999-01-31", "2999-01-31T00:00:00+00:00"),
        ("2999-01-31T12:00+09:00", "2999-01-31T03:00:00+00:00"),
    ],
)
def test_a_key_expires_when_it_is_said(ask: Ask, expires: str, expected: str | None) -> None:
    done = ask("create", "--name", "a", "--scope", "read", "--expires", expires, "--json")
    assert json.loads(done.stdout)["expires_at"] == expected


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["create", "--name", "", "--scope", "read"], InvalidInput),
        (["create", "--name", "a", "--scope", "read", "--expires", "2001-01-01"], InvalidInput),
        (["revoke", "nobody"], KeyNotFound),
    ],
)
def test_what_cannot_be_done_is_an_error_of_the_domain(ask: Ask, arguments: list[str], kind: type[EpochdError]) -> None:
    assert ask("create", "--name", "first", "--scope", "read").exit_code == 0
    assert isinstance(ask(*arguments).exception, kind)


def test_a_name_is_taken_until_its_key_is_revoked(ask: Ask) -> None:
    assert ask(*CREATE).exit_code == 0
    assert isinstance(ask(*CREATE).exception, KeyNameTaken)
    assert ask("revoke", "a").exit_code == 0
    assert ask(*CREATE).exit_code == 0


@pytest.mark.parametrize("arguments", [["--scope", "all"], ["--scope", "read", "--expires", "soon"], []])
def test_a_key_that_is_not_described_so_is_exit_code_2(ask: Ask, arguments: list[str]) -> None:
    assert ask("create", "--name", "a", *arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["revoke", "a"]])
@pytest.mark.parametrize(
    ("where", "said"),
    [
        (["--data-dir", "{}/none"], "there is no data folder {}/none"),
        (["--data-dir", "{}"], "there is no database {}/epochd.sqlite3"),
        (["--database-url", "sqlite:///{}/none/a.sqlite3"], "there is no database {}/none/a.sqlite3"),
    ],
)
def test_what_only_looks_for_keys_makes_no_database(
    ask: Ask, tmp_path: Path, arguments: list[str], where: list[str], said: str
) -> None:
    done = ask(*arguments, *(part.format(tmp_path) for part in where))
    assert done.exit_code == 1
    assert said.format(tmp_path) in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_only_looks_for_keys_makes_no_tables(ask: Ask, database_url: str, tmp_path: Path) -> None:
    with contextlib.closing(Database(database_url)) as database:
        schema.downgrade(database, "base")
        done = ask("list", "--database-url", database_url)
        assert done.exit_code == 1
        assert "epochd was never started" in done.stderr
        assert schema.current(database) is None
        assert "a new database was made" in ask(*CREATE, "--database-url", database_url).stderr
        assert ask("list", "--database-url", database_url).exit_code == 0


@pytest.mark.parametrize(
    "expires",
    [
        "99999999999d",
        "100000w",
        "9" * 5000 + "h",
        "-1d",
        "10000-01-01",
        "9999-12-31T23:59-12:00",
        "0001-01-01T00:00+12:00",
    ],
)
def test_an_expiry_that_no_calendar_has_is_exit_code_2_and_says_what_would_do(
    ask: Ask, tmp_path: Path, expires: str
) -> None:
    done = ask(*CREATE, "--expires", expires)
    assert done.exit_code == 2
    assert "an age of at most 5 digits" in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("expires", ["99999w", "99999h", "9999-12-31T23:59+12:00"])
def test_a_key_may_be_good_for_very_long(ask: Ask, expires: str) -> None:
    assert ask(*CREATE, "--expires", expires).exit_code == 0
    listed = ask("list")
    assert listed.exit_code == 0
    assert "good" in listed.stdout


def test_the_first_key_may_make_the_database_and_says_where(ask: Ask, tmp_path: Path) -> None:
    first, second = ask(*CREATE), ask("create", "--name", "b", "--scope", "read")
    assert f"a new database was made: {tmp_path / 'epochd.sqlite3'}" in first.stderr
    assert "database" not in second.stderr
