"""A backup of a service that runs: the rows of one moment, and every file that they name.

Files come before and after the rows. Before, because most are there already, and copying them takes long. After, for
what has come since. In between, the rows are read as they were at one moment, and nobody waits for that: SQLite's WAL
and PostgreSQL's snapshots let others write.

What a moment's rows name may be gone when its turn comes. A checkpoint that was replaced is left out, and its
experiment begins anew when it is restored, with the same bits. An experiment that was deleted is left out.
"""

from collections.abc import Callable, Iterator, Set
from datetime import datetime
from importlib.metadata import version
from typing import Literal

from sqlalchemy import Connection, Table, select

from service.errors import Unavailable
from service.store import schema
from service.store.archive import Archive, Key, Manifest, Part, files_of
from service.store.blobs import Blobs
from service.store.copying import Copier
from service.store.session import Database
from service.store.tables import Base, ExperimentRow, WorkerRow, database_now

__all__ = ["LEFT_OUT", "back_up"]

PART = 5_000
"""Rows in a part: some megabytes in memory, some hundreds of kilobytes when written."""

Tell = Callable[[str], None]
LEFT_OUT = frozenset({WorkerRow.__tablename__})
"""Who works now is nothing to bring back."""
FILES = (ExperimentRow.id, ExperimentRow.keras_sha256, ExperimentRow.onnx_sha256, ExperimentRow.checkpoint_sha256)


def back_up(database: Database, blobs: Blobs, archive: Archive, *, tell: Tell) -> Manifest:
    """Write a backup, and return what it holds. One that was cut short goes on when it is called again, with rows of
    that later moment. `tell` hears what is being done.

    Raises:
        Conflict: there is a whole backup in that place already, or what is none of a backup.
        SchemaOutOfDate: another version of epochd made the database.
        Unavailable: the database, its files or that place cannot be reached.
    """
    archive.begin()
    with database.read() as session:
        schema.require_head(session.connection())
        named = _named(session.connection())
    copier = Copier(blobs, archive.blobs)
    tell(f"copying {len(named):,} files")
    copier.copy(named)
    tell("reading the database")
    with database.snapshot() as connection:
        schema.require_head(connection)  # again: the copying may have taken hours
        taken_at: datetime = connection.execute(select(database_now())).scalar_one()
        # They are replaced every few seconds, so they go first, and the rows may then say which were missed.
        missed = copier.copy(_named(connection, checkpoints=True))
        tables = {
            table.name: tuple(_parts(connection, table, archive, missed={one for one, _ in missed}))
            for table in Base.metadata.sorted_tables
            if table.name not in LEFT_OUT
        }
        named = _named(connection) - set(missed)
    tell("copying what has come since")
    deleted, damaged = _explained(database, copier.copy(sorted(named)))
    kept = {key: size for key, size in copier.sizes.items() if key in named and key[0] not in deleted}
    for blob in archive.blobs.list():
        if blob.key not in kept:
            archive.blobs.delete(*blob.key)
    kind: Literal["sqlite", "postgresql"] = "sqlite" if database.is_sqlite else "postgresql"
    manifest = Manifest(
        version=version("epochd"), revision=schema.head(), taken_at=taken_at, database=kind, tables=tables,
        files=len(kept), file_bytes=sum(kept.values()), deleted=tuple(sorted(deleted)), damaged=tuple(damaged),
    )  # fmt: skip
    archive.complete(manifest)
    return manifest


def _named(connection: Connection, *, checkpoints: bool = False) -> set[Key]:
    """Every file that a row names, or only the checkpoints."""
    columns = (ExperimentRow.id, ExperimentRow.checkpoint_sha256) if checkpoints else FILES
    statement = select(*columns)
    if checkpoints:
        statement = statement.where(ExperimentRow.checkpoint_sha256.is_not(None))
    return {(one, sha256) for one, *hashes in connection.execute(statement) for sha256 in hashes if sha256}


def _parts(connection: Connection, table: Table, archive: Archive, *, missed: Set[str]) -> Iterator[Part]:
    rows = connection.execute(select(table), execution_options={"yield_per": PART})
    for part in rows.partitions():
        values = [row._asdict() for row in part]
        if table is ExperimentRow.__table__:
            for row in values:
                if row["id"] in missed:
                    row["checkpoint_sha256"] = row["checkpoint_epoch"] = None
        yield archive.put_rows(table.name, values)


def _explained(database: Database, lost: list[Key]) -> tuple[set[str], list[Key]]:
    """Why files were not there: their experiments were deleted meanwhile, or the store has lost them."""
    deleted: set[str] = set()
    damaged: list[Key] = []
    with database.read() as session:
        for key in lost:
            row = session.execute(select(*FILES).where(ExperimentRow.id == key[0])).first()
            if row is None:
                deleted.add(key[0])
            elif key in files_of(row._asdict()):
                damaged.append(key)
            else:
                raise Unavailable(f"the files of experiment {key[0]} changed meanwhile: begin again")
    return deleted, damaged
