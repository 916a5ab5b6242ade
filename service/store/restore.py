"""A backup back into a service: into an empty place, files first, and then all rows in one transaction.

So a restoration that is cut short leaves an empty database, and goes on when it is begun again. When it is done, no
worker of the time before may write: neither one that ran when the backup was made, nor one that has run since. A
worker's token is experiment, attempt and owner. So each experiment that has not ended goes back to the queue with an
attempt far above every one that anybody can hold, and with as many more that do not count.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, Date, DateTime, MetaData, Table, func, insert, inspect, select, text, update
from sqlalchemy.exc import (
    CompileError,
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    StatementError,
)
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.errors import BlobCorrupt, BlobMissing, Conflict, InvalidInput
from service.store import schema
from service.store.archive import Archive, Key, Manifest, files_of
from service.store.backup import LEFT_OUT
from service.store.blobs import Blobs
from service.store.copying import Copier
from service.store.session import Database
from service.store.tables import Base, ExperimentRow
from service.store.transitions import move

__all__ = ["FENCE", "Restored", "restore", "verify"]

FENCE = 1000
"""How many attempts a restored experiment is ahead: more than it can have had since its backup."""
BATCH = 1000
"""Rows in a statement."""
NAME = re.compile(r"[A-Za-z0-9_-]+")
"""Of an experiment or a file. It becomes a part of a path, so it must not climb out of the store."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What came back."""

    manifest: Manifest
    files: int
    requeued: int
    """Experiments that were running and are queued again."""


def verify(archive: Archive) -> Manifest:
    """Read a whole backup, and say what it holds.

    Raises:
        InvalidInput: there is none, or it was cut short, or lacks a table.
        SchemaOutOfDate: a newer epochd made it.
        BlobMissing, BlobCorrupt: a part of it is gone, or damaged.
        Unavailable: it cannot be read.
    """
    manifest = _manifest(archive)
    for table in manifest.tables:
        for _ in archive.table(manifest, table):
            pass
    for key in _files(archive, manifest):
        archive.blobs.get(*key)
    return manifest


def restore(archive: Archive, database: Database, blobs: Blobs, *, tell: Tell) -> Restored:
    """Bring a backup into an empty database and an empty blob store. Files of this very backup, which an earlier try
    has left, may be there. `tell` hears what is being done.

    Raises:
        InvalidInput: there is no backup, or it was cut short, or lacks a table.
        SchemaOutOfDate: a newer epochd made it.
        Conflict: the database has tables, or the blob store other files.
        BlobMissing, BlobCorrupt: a part of the backup is gone, or damaged.
        Unavailable: the backup, the database or the blob store cannot be reached.
    """
    manifest = _manifest(archive)
    with database.connection() as connection:
        _require_empty(connection)
    keys = set(_files(archive, manifest))
    before = {blob.key for blob in blobs.list()}
    if not before <= keys:
        raise Conflict("the blob store has files that are not of this backup: give an empty one")
    copier = Copier(archive.blobs, blobs)
    try:
        tell(f"copying {len(keys):,} files")
        _require_none(copier.copy(sorted(keys)))
        tell(f"writing {manifest.rows:,} rows")
        with database.connection() as connection:
            _require_empty(connection)
            _be_patient(connection)
            schema.upgrade_within(connection, manifest.revision)
            _load(connection, archive, manifest)
            schema.upgrade_within(connection, "head")
            requeued = _fence(connection)
    except (InvalidInput, BlobMissing, BlobCorrupt):  # trying again helps nothing, and another backup has other files
        for key in copier.sizes.keys() - before:
            blobs.discard(*key)
        raise
    return Restored(manifest=manifest, files=len(keys), requeued=requeued)


def _manifest(archive: Archive) -> Manifest:
    manifest = archive.manifest()
    if manifest is None:
        raise InvalidInput(f"{archive.place} holds no backup, or one that was cut short")
    schema.require_known(manifest.revision)
    if manifest.revision == schema.head():  # of other revisions the database alone knows
        _require_tables(manifest, Base.metadata.tables.keys())
    elif ExperimentRow.__tablename__ not in manifest.tables:
        raise InvalidInput(f"the backup is not whole: it lacks the table {ExperimentRow.__tablename__}")
    return manifest


def _require_tables(manifest: Manifest, wanted: Set[str]) -> None:
    """A backup without the keys, say, would leave a service open to everybody."""
    unknown = manifest.tables.keys() - wanted
    if unknown:
        raise InvalidInput(f"the backup has tables that its revision does not: {', '.join(sorted(unknown))}")
    lacking = wanted - manifest.tables.keys() - LEFT_OUT
    if lacking:
        raise InvalidInput(f"the backup is not whole: it lacks the tables {', '.join(sorted(lacking))}")


def _files(archive: Archive, manifest: Manifest) -> Iterator[Key]:
    damaged = set(manifest.damaged)
    for row in archive.table(manifest, "experiments"):
        try:
            found = files_of(row)
        except KeyError as error:
            raise BlobCorrupt(f"the backup is damaged: an experiment has no {error.args[0]}") from None
        for part in itertools.chain([row["id"]], *found):
            if not isinstance(part, str) or not NAME.fullmatch(part):
                raise BlobCorrupt("the backup is damaged: an experiment or a file of it has a name that none can have")
        yield from (key for key in found if key not in damaged)


def _require_none(lost: list[Key]) -> None:
    if lost:
        experiment_id, sha256 = lost[0]
        raise BlobMissing(f"the backup is damaged: it has no whole file {sha256} of experiment {experiment_id}")


def _require_empty(connection: Connection) -> None:
    if inspect(connection).get_table_names():
        raise Conflict("the database is not empty: give one without tables, in which no epochd was started")


def _be_patient(connection: Connection) -> None:
    """A part that comes slowly must not end the transaction (`session.py` says why others are ended)."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _load(connection: Connection, archive: Archive, manifest: Manifest) -> None:
    """Write all rows into tables of the backup's own revision, which the code may know no more."""
    found = MetaData()
    found.reflect(connection)
    _require_tables(manifest, found.tables.keys() - {"alembic_version"})
    for table in found.sorted_tables:
        if table.name in manifest.tables:
            with _faults_told(table):
                _load_table(connection, table, archive.table(manifest, table.name))


@contextlib.contextmanager
def _faults_told(table: Table) -> Iterator[None]:
    """What no row can be is a damage of the backup. What the database itself meets, such as a full disk, is none."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError):
        raise
    except (StatementError, CompileError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if type(error) is DatabaseError:  # the file of the database is damaged
            raise
        raise BlobCorrupt(
            f"the backup is damaged: rows of {table.name} are not as its revision has them ({type(error).__name__})"
        ) from error


def _load_table(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    naive = connection.dialect.name == "sqlite"
    moments = [column.name for column in table.columns if isinstance(column.type, DateTime)]
    dates = [column.name for column in table.columns if isinstance(column.type, Date)]
    names = set(table.columns.keys())
    written = 0
    while batch := list(itertools.islice(rows, BATCH)):
        if any(row.keys() != names for row in batch):  # the statement would leave out what one has more or less
            raise BlobCorrupt(f"the backup is damaged: rows of {table.name} have not the columns of its revision")
        for row in batch:
            for name in moments:
                row[name] = _moment(row[name], naive=naive)
            for name in dates:
                row[name] = date.fromisoformat(row[name]) if row[name] else None
        connection.execute(insert(table), batch)
        written += len(batch)
    there = connection.execute(select(func.count()).select_from(table)).scalar_one()
    if there != written:
        raise BlobCorrupt(f"the table {table.name} has {there:,} rows where the backup has {written:,}")


def _moment(value: str | None, *, naive: bool) -> datetime | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(value).astimezone(UTC)
    return moment.replace(tzinfo=None) if naive else moment


def _fence(connection: Connection) -> int:
    """Take every experiment that has not ended out of the reach of workers. Returns how many were running."""
    unfinished = ExperimentRow.status.in_([status.value for status in Status if not status.terminal])
    with Session(connection, join_transaction_mode="rollback_only") as session:
        session.execute(
            update(ExperimentRow)
            .where(unfinished)
            .values(attempt=ExperimentRow.attempt + FENCE, drains=ExperimentRow.drains + FENCE)
            .execution_options(synchronize_session=False)
        )
        running = session.scalars(select(ExperimentRow.id).where(ExperimentRow.status == Status.RUNNING.value)).all()
        cancelling = select(ExperimentRow.id).where(ExperimentRow.status == Status.CANCELLING.value)
        for experiment_id in running:  # not its fault: it does not count as an attempt
            this = ExperimentRow.id == experiment_id
            move(session, Status.QUEUED, this, reason="restored", drains=ExperimentRow.drains + 1)
        for experiment_id in session.scalars(cancelling).all():
            move(session, Status.CANCELLED, ExperimentRow.id == experiment_id)
        session.flush()
    return len(running)
