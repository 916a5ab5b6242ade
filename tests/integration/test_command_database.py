"""`epochd db`, in this process: what it refuses."""

import contextlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.commands.database import app
from service.store import schema
from service.store.blobs import Blobs
from service.store.session import Database

OTHER_FILES = "01a21f4b-7e50-775d-9148-c92f7fe1516f"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--repair"],
        ["gc", "--older-than", "0h"],
        ["prune", "--older-than", "1d"],
        ["prune", "--audit-older-than", "1d"],
        ["backup", "{}/backup"],
    ],
    ids=" ".join,
)
def test_an_empty_database_is_not_taken_for_the_services_own(
    arguments: list[str], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one that names no file, all files of the service would be garbage."""
    monkeypatch.setenv("EPOCHD_DATA_DIR", str(tmp_path))
    blobs = Blobs((tmp_path / "blobs").as_uri())
    model = blobs.put(OTHER_FILES, b"a model of the service's own")
    with contextlib.closing(Database(database_url)) as database:
        schema.downgrade(database, "base")
        done = CliRunner().invoke(app, [part.format(tmp_path) for part in [*arguments, "--database-url", database_url]])
        assert done.exit_code == 1
        assert "epochd was never started on the database" in done.stderr
        assert schema.current(database) is None
    assert [blob.key for blob in blobs.list()] == [(OTHER_FILES, model)]
    assert not (tmp_path / "backup").exists()
