"""Backups that are damaged in every way a disk, a copy or a hand may damage them: told in one line, and none of it is
brought back.
"""

import contextlib
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect
from typer.testing import CliRunner

from service.commands.database import app
from service.errors import BlobCorrupt, BlobMissing, EpochdError, InvalidInput, SchemaOutOfDate
from service.store.archive import Archive
from service.store.backup import back_up
from service.store.blobs import Blobs
from service.store.restore import restore, verify
from service.store.session import Database
from tests.backups import fill, quiet

Damage = Callable[[Path], object]

KINDS = (InvalidInput, SchemaOutOfDate, BlobMissing, BlobCorrupt)
NO_HASH = "f" * 64


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, tiny_onnx: bytes) -> Path:
    """A backup with something in every table, to be copied."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(sqlite_template, folder / "one.sqlite3")
    blobs = Blobs((folder / "blobs").as_uri())
    with contextlib.closing(Database(f"sqlite:///{folder / 'one.sqlite3'}")) as database:
        fill(database, blobs, tiny_onnx)
        back_up(database, blobs, Archive(str(folder / "backup"), make=True), tell=quiet)
    return folder / "backup"


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A backup to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "backup"))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'restored.sqlite3'}")) as database:
        yield database


def bytes_of_manifest(change: Callable[[bytes], bytes]) -> Damage:
    return lambda place: (place / "backup.json").write_bytes(change((place / "backup.json").read_bytes()))


def manifest(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(place: Path) -> None:
        found = json.loads((place / "backup.json").read_text())
        change(found)
        (place / "backup.json").write_text(json.dumps(found))

    return damage


def without(key: str) -> Damage:
    return manifest(lambda found: found.pop(key))


def with_(**values: Any) -> Damage:
    return manifest(lambda found: found.update(values))


def with_part(**values: Any) -> Damage:
    return manifest(lambda found: found["tables"]["experiments"][0].update(values))


def file_of(table: str, change: Callable[[Path], object]) -> Damage:
    """Of the rows, as a disk damages them."""
    return lambda place: change(next((place / "rows" / table).iterdir()))


def blob(change: Callable[[Path], object]) -> Damage:
    return lambda place: change(sorted((place / "files").glob("*/*"))[-1])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def gone(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rewritten(table: str, change: Callable[[bytes], bytes], *, packed: bool = True) -> Damage:
    """Other rows under a hash that is right: none of a disk's damages, but of a program's or a hand's."""

    def damage(place: Path) -> None:
        found = json.loads((place / "backup.json").read_text())
        part = found["tables"][table][0]
        lines = change(gzip.decompress((place / "rows" / table / part["sha256"]).read_bytes()))
        data = gzip.compress(lines) if packed else lines
        part["sha256"] = hashlib.sha256(data).hexdigest()
        (place / "rows" / table / part["sha256"]).write_bytes(data)
        (place / "backup.json").write_text(json.dumps(found))

    return damage


def row(table: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    def rows(lines: bytes) -> bytes:
        found = [json.loads(line) for line in lines.split(b"\n")]
        change(found[0])
        return b"\n".join(json.dumps(one).encode() for one in found)

    return rewritten(table, rows)


def twice(found: dict[str, Any]) -> None:
    found["tables"]["experiments"] *= 2


MANIFESTS: dict[str, Damage] = {
    "is gone": lambda place: (place / "backup.json").unlink(),
    "is empty": bytes_of_manifest(lambda _: b""),
    "is cut short": bytes_of_manifest(lambda data: data[: len(data) // 2]),
    "lacks its last byte": bytes_of_manifest(lambda data: data[:-1]),
    "is no JSON": bytes_of_manifest(lambda _: b"PK\x03\x04"),
    "is no UTF-8": bytes_of_manifest(lambda data: data.replace(b"sqlite", b"\xff\xfe\xfd")),
    "is zeros": bytes_of_manifest(lambda data: bytes(len(data))),
    "is a list": bytes_of_manifest(lambda data: b"[" + data + b"]"),
    "is null": bytes_of_manifest(lambda _: b"null"),
    "nests deep": bytes_of_manifest(lambda _: b"[" * 100_000),
    "is a folder": lambda place: as_folder(place / "backup.json"),
    **{
        f"lacks {key}": without(key)
        for key in ("version", "revision", "taken_at", "database", "tables", "files", "file_bytes")
    },
    "is of a later format": with_(format=2),
    "has a key that nobody knows": with_(more=1),
    "has no revision": with_(revision=None),
    "has an empty revision": with_(revision=""),
    "has a revision that is a number": with_(revision=7),
    "has another revision": with_(revision="0001"),
    "has no moment": with_(taken_at="yesterday"),
    "has tables that are a list": with_(tables=[]),
    "has no tables": with_(tables={}),
    "has a table that is a number": with_(tables={"experiments": 5}),
    "has a count that is text": with_(files="many"),
    "has a count that is too large": with_part(rows=10**30),
    "has a count that is negative": with_part(rows=-1),
    "has a count that is wrong": with_part(rows=99),
    "has deleted that is no text": with_(deleted=[5]),
    "has damaged that is no pair": with_(damaged=[["a"]]),
    "has a hash that is a number": with_part(sha256=5),
    "has a hash that is empty": with_part(sha256=""),
    "has a hash that climbs": with_part(sha256="../../backup.json"),
    "has a hash that nothing has": with_part(sha256=NO_HASH),
    "lacks the experiments": manifest(lambda found: found["tables"].pop("experiments")),
    "lacks the keys": manifest(lambda found: found["tables"].pop("api_keys")),
    "has a table more": manifest(lambda found: found["tables"].update(more=[])),
    "has a part twice": manifest(twice),
}  # fmt: skip
FILES: dict[str, Damage] = {
    **{
        f"{table}: {name}": file_of(table, change)
        for table in ("experiments", "epochs", "api_keys")
        for name, change in {"gone": gone, "cut": cut, "flip": flip}.items()
    },
    "rows are gone": lambda place: shutil.rmtree(place / "rows"),
    "a file is gone": blob(gone),
    "a file is cut": blob(cut),
    "a file has a bit flipped": blob(flip),
    "a file is empty": blob(lambda path: path.write_bytes(b"")),
    "files are gone": lambda place: shutil.rmtree(place / "files"),
}
ROWS: dict[str, Damage] = {
    "no gzip": rewritten("epochs", lambda lines: lines, packed=False),
    "broken gzip": rewritten("epochs", lambda lines: gzip.compress(lines)[:12] + b"\xff" * 40, packed=False),
    "no JSON": rewritten("epochs", lambda lines: lines[:-3]),
    "no objects": rewritten("epochs", lambda lines: b"\n".join(b"[1]" for _ in lines.split(b"\n"))),
    "no objects in experiments": rewritten("experiments", lambda lines: b"\n".join(b"7" for _ in lines.split(b"\n"))),
    "a row without its id": row("experiments", lambda one: one.pop("id")),
    "a row without a hash": row("experiments", lambda one: one.pop("keras_sha256")),
    "a row without a moment": row("experiments", lambda one: one.pop("created_at")),
    "a row without a value": row("epochs", lambda one: one.pop("loss")),
    "a row with a value more": row("epochs", lambda one: one.update(more=1)),
    "a null where none may be": row("experiments", lambda one: one.update(status=None)),
    "an id that is a number": row("experiments", lambda one: one.update(id=5)),
    "an id that climbs": row("experiments", lambda one: one.update(id="../../above", keras_sha256=NO_HASH)),
    "a hash that is a list": row("experiments", lambda one: one.update(keras_sha256=[1])),
    "a hash that climbs": row("experiments", lambda one: one.update(keras_sha256="../../../above")),
    "a moment that is a number": row("experiments", lambda one: one.update(created_at=5)),
    "a moment that is none": row("experiments", lambda one: one.update(created_at="yesterday")),
    "a moment that no calendar has": row("experiments", lambda one: one.update(created_at="0001-01-01T00:00:00+12:00")),
    "a date that is none": row("training_usage", lambda one: one.update(day="x")),
    "a number that is too large": row("epochs", lambda one: one.update(epoch=2**63)),
    "a number that is an object": row("epochs", lambda one: one.update(epoch={})),
    "an epoch of nobody": row("epochs", lambda one: one.update(experiment_id="nobody")),
}  # fmt: skip


def nothing_came_back(target: Database, blobs: Blobs) -> None:
    with target.read() as session:
        assert inspect(session.connection()).get_table_names() == []
    assert blobs.list() == []


@pytest.mark.parametrize("damage", [*MANIFESTS.values(), *FILES.values()], ids=[*MANIFESTS, *FILES])
def test_a_damaged_backup_is_told_by_a_dry_run_and_nothing_of_it_comes_back(
    place: Path, target: Database, tmp_path: Path, damage: Damage
) -> None:
    damage(place)
    blobs = Blobs((tmp_path / "restored").as_uri())
    with contextlib.suppress(EpochdError):  # what a row names more than once, the database alone knows
        verify(Archive(str(place)))
    with pytest.raises(KINDS) as told:
        restore(Archive(str(place)), target, blobs, tell=quiet)
    assert "\n" not in str(told.value)
    nothing_came_back(target, blobs)


@pytest.mark.parametrize("damage", ROWS.values(), ids=ROWS.keys())
def test_rows_that_cannot_be_are_told_and_nothing_of_them_comes_back(
    place: Path, empty: Database, tmp_path: Path, damage: Damage
) -> None:
    damage(place)
    blobs = Blobs((tmp_path / "restored").as_uri())
    with contextlib.suppress(EpochdError):  # not all of it can be known without a database
        verify(Archive(str(place)))
    with pytest.raises(BlobCorrupt, match="the backup is damaged") as told:
        restore(Archive(str(place)), empty, blobs, tell=quiet)
    assert "\n" not in str(told.value)
    nothing_came_back(empty, blobs)


@pytest.mark.parametrize("damage", FILES.values(), ids=FILES.keys())
def test_a_dry_run_tells_what_a_disk_damaged(place: Path, damage: Damage) -> None:
    damage(place)
    with pytest.raises(KINDS):
        verify(Archive(str(place)))


def test_a_whole_backup_comes_back_where_a_damaged_one_did_not(
    whole: Path, place: Path, target: Database, tmp_path: Path
) -> None:
    blobs = Blobs((tmp_path / "restored").as_uri())
    FILES["a file is cut"](place)
    with pytest.raises(BlobMissing):
        restore(Archive(str(place)), target, blobs, tell=quiet)
    assert restore(Archive(str(whole)), target, blobs, tell=quiet).files == 3


@pytest.mark.parametrize("damage", [MANIFESTS["is cut short"], FILES["a file is cut"], ROWS["a row without its id"]])
def test_the_command_ends_so_too(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage) -> None:
    damage(place)
    monkeypatch.setenv("EPOCHD_DATA_DIR", str(tmp_path / "data"))
    for arguments in ([], ["--dry-run"]):
        done = CliRunner().invoke(app, ["restore", str(place), *arguments])
        assert isinstance(done.exception, KINDS)
        assert done.stdout == ""
