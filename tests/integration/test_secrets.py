"""Passwords in settings stay where they are: no error, no answer and no line of a log has them."""

import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from service.errors import EpochdError, InvalidInput, Unavailable
from service.settings import Settings
from service.store import experiments
from service.store.blobs import Blobs
from service.store.session import Database
from tests.integration.conftest import out_of_reach, problem, serving

SECRET = "hunter2secret"
DATABASES = [
    f"postgresql://u:{SECRET}@127.0.0.1:1/x",
    f"postgresql://u@127.0.0.1:1/x?password={SECRET}",
    f"postgresql://u:{SECRET}@127.0.0.1:1/x?sslmode=bogus",
    f"postgresql://u:{SECRET}@127.0.0.1:port/x",
    f"mysql://u:{SECRET}@127.0.0.1/x",
    f"u:{SECRET}@127.0.0.1/x",
    SECRET,
]
BLOBS = [f"ftp://u:{SECRET}@h/x", f"az://a:{SECRET}@x", f"s3://k:{SECRET}@", SECRET, f"file://u:{SECRET}@h/x"]


def chain(error: BaseException | None) -> str:
    """All that a log could say of an error."""
    return "" if error is None else f"{error!r} {error} {chain(error.__cause__)}"


@pytest.mark.parametrize("url", DATABASES)
def test_a_database_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    with (
        pytest.raises((InvalidInput, Unavailable)) as caught,
        contextlib.closing(Database(url)) as database,
        database.connection(),
    ):
        pass
    assert SECRET not in chain(caught.value)


@pytest.mark.parametrize("url", BLOBS)
def test_a_blob_store_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    with pytest.raises(EpochdError) as caught:
        Blobs(url)
    assert SECRET not in chain(caught.value)


def test_a_failed_statement_is_told_without_its_values(database: Database) -> None:
    statement = text("INSERT INTO nowhere VALUES (:value)")
    with pytest.raises((Unavailable, ProgrammingError)) as caught, database.write() as session:
        session.execute(statement, {"value": SECRET})
    assert "parameters hidden" in chain(caught.value)
    assert SECRET not in chain(caught.value)


@pytest.mark.slow
def test_the_command_says_nothing_of_it(tmp_path: Path) -> None:
    for url in (DATABASES[0], DATABASES[3]):
        done = subprocess.run(
            [sys.executable, "-m", "service.cli", "serve", "--no-worker", "--port", "0"],
            env=os.environ
            | {"EPOCHD_DATABASE_URL": url, "EPOCHD_DATA_DIR": str(tmp_path), "EPOCHD_LOG_LEVEL": "debug"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        assert done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_an_answer_and_the_log_of_a_database_that_went_away_have_no_address(
    postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    named = f"{postgres_url}&password={SECRET}"
    with serving(Settings(data_dir=tmp_path, database_url=named)) as api:
        with out_of_reach(postgres_url):
            answer = api.get("/experiments")
            problem(answer, 503)
        assert SECRET not in answer.text
        with api.ports.database.read() as session:
            assert experiments.last_events(session, []) == {}
    assert SECRET not in caplog.text
