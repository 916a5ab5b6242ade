"""Do the files and the rows agree? Finds missing, damaged and orphaned files, and collects the orphans.

Orphans are the files that no row names and that none will ever name. A file is put before the row that names it, so a
file of an experiment that has not ended may be about to be named, however old it is: its worker may have been frozen,
or the database away, for days. It may be old garbage, and be put again at this moment by an attempt that repeats the
same bits. No age tells these apart. So only these are orphans, and nobody can make them anything else:

- Files of an experiment that has ended, and that its row does not name. A row that has ended never changes its files:
  every write of a worker is fenced, and needs a row that is running or being cancelled.
- Files of an experiment that is gone. Ids are never used again.

That needs an order: first the files are listed, then the rows are read. An experiment whose file is in the list had
its row before, so a row that is not there then was deleted. The other way around, an experiment might begin in between.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.errors import BlobCorrupt, BlobMissing
from service.store.blobs import Blobs, StoredBlob
from service.store.session import Database
from service.store.tables import ExperimentRow

__all__ = ["Report", "audit", "orphans", "remove"]

Key = tuple[str, str]
"""Experiment and SHA-256."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found. Each file as (experiment id, SHA-256)."""

    checked: int
    """Files that rows name."""
    missing: list[Key]
    """Named by a row, but not there."""
    corrupt: list[Key]
    """There, but with other bytes than their SHA-256 says."""
    orphans: list[StoredBlob]
    """There, but named by no row, now and for ever."""

    @property
    def sound(self) -> bool:
        """Whether every file that a row names is there and whole."""
        return not self.missing and not self.corrupt


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What the rows say at one moment."""

    named: Set[Key]
    unfinished: Set[str]
    """Experiments that have not ended."""
    newest: str
    """The largest id. Ids ascend. Files of experiments that are newer than every row belong to another database, or
    this one was restored from a backup: it does not know enough to call them garbage."""

    def disown(self, blob: StoredBlob) -> bool:
        """Whether the file is an orphan, if it was listed before the rows were read."""
        experiment_id = blob.key[0]
        return blob.key not in self.named and experiment_id not in self.unfinished and experiment_id <= self.newest


def audit(database: Database, blobs: Blobs) -> Report:
    """Read every file that a row names, and list those that none does.

    Raises:
        Unavailable: the database or the files cannot be reached.
    """
    stored = blobs.list()
    with database.read(unhurried=True) as session:
        rows = _rows(session)
    missing, corrupt = [], []
    for key in sorted(rows.named):
        try:
            blobs.get(*key)
        except BlobMissing:
            missing.append(key)
        except BlobCorrupt:
            corrupt.append(key)
    # A row may have moved on to a newer checkpoint since it was read.
    with database.read(unhurried=True) as session:
        now = _rows(session).named
    return Report(
        checked=len(rows.named),
        missing=[key for key in missing if key in now],
        corrupt=[key for key in corrupt if key in now],
        orphans=_sorted(blob for blob in stored if rows.disown(blob)),
    )


def orphans(database: Database, blobs: Blobs, *, older_than: timedelta = timedelta()) -> list[StoredBlob]:
    """The files that no row names and none ever will, without reading what is in them. Safe at any age; those that were
    written in the last `older_than`, by the store's clock against ours, are left out.

    Raises:
        Unavailable: the database or the files cannot be reached.
    """
    stored = blobs.list()
    with database.read(unhurried=True) as session:
        rows = _rows(session)
    before = datetime.now(UTC) - older_than
    return _sorted(blob for blob in stored if rows.disown(blob) and blob.modified <= before)


def remove(blobs: Blobs, found: Iterable[StoredBlob]) -> None:
    """Delete these orphans. They need not be looked at again: nothing can have made them needed.

    Raises:
        Unavailable: the files cannot be reached. Those that were deleted until then are gone.
    """
    for blob in found:
        blobs.delete(*blob.key)


def _rows(session: Session) -> _Rows:
    files = session.execute(
        select(
            ExperimentRow.id,
            ExperimentRow.status,
            ExperimentRow.keras_sha256,
            ExperimentRow.onnx_sha256,
            ExperimentRow.checkpoint_sha256,
        )
    )
    named: set[Key] = set()
    unfinished: set[str] = set()
    for experiment_id, status, *hashes in files:
        named |= {(experiment_id, sha256) for sha256 in hashes if sha256 is not None}
        if not Status(status).terminal:
            unfinished.add(experiment_id)
    newest = session.scalar(select(func.max(ExperimentRow.id))) or ""
    return _Rows(named=named, unfinished=unfinished, newest=newest)


def _sorted(found: Iterable[StoredBlob]) -> list[StoredBlob]:
    return sorted(found, key=lambda blob: blob.key)
