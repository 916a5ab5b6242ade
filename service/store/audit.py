"""Do the files and the rows agree? Finds missing, damaged and orphaned files, and removes orphans."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.errors import BlobCorrupt, BlobMissing
from service.store.blobs import Blobs, StoredBlob
from service.store.session import Database
from service.store.tables import ExperimentRow

__all__ = ["Report", "audit", "remove_orphans"]

SETTLED = timedelta(hours=1)
"""A file is written before the row that names it. Of an experiment that still runs, only older ones are orphans."""

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
    orphans: list[Key]
    """There, but named by no row: left by a worker that died in between. Harmless. Files of experiments that are newer
    than every row here are not counted."""

    @property
    def sound(self) -> bool:
        """Whether every file that a row names is there and whole."""
        return not self.missing and not self.corrupt


def audit(database: Database, blobs: Blobs) -> Report:
    """Read every file that a row names, and list those that none does.

    Raises:
        Unavailable: the database or the files cannot be reached.
    """
    stored = blobs.list()  # before the rows: what is written and named after this cannot be missed in it
    with database.read() as session:
        named, running = _named(session)
        # Ids ascend. Files of experiments that are newer than every row belong to another database, or this one was
        # restored from a backup: it does not know enough to call them garbage.
        newest = session.scalar(select(func.max(ExperimentRow.id))) or ""
    missing, corrupt = [], []
    for key in sorted(named):
        try:
            blobs.get(*key)
        except BlobMissing:
            missing.append(key)
        except BlobCorrupt:
            corrupt.append(key)
    orphans = sorted(b.key for b in stored if b.key not in named and b.key[0] <= newest and _settled(b, running))
    # A row may have moved on to a newer checkpoint since it was read.
    with database.read() as session:
        now, _ = _named(session)
    return Report(
        checked=len(named),
        missing=[key for key in missing if key in now],
        corrupt=[key for key in corrupt if key in now],
        orphans=[key for key in orphans if key not in now],
    )


def remove_orphans(blobs: Blobs, report: Report) -> None:
    """Delete the files that no row names.

    Raises:
        Unavailable: the files cannot be reached.
    """
    for key in report.orphans:
        blobs.delete(*key)


def _named(session: Session) -> tuple[set[Key], set[str]]:
    """The files that rows name, and the experiments that have not ended."""
    rows = session.execute(
        select(
            ExperimentRow.id,
            ExperimentRow.status,
            ExperimentRow.keras_sha256,
            ExperimentRow.onnx_sha256,
            ExperimentRow.checkpoint_sha256,
        )
    )
    named: set[Key] = set()
    running: set[str] = set()
    for experiment_id, status, *files in rows:
        named |= {(experiment_id, sha256) for sha256 in files if sha256 is not None}
        if not Status(status).terminal:
            running.add(experiment_id)
    return named, running


def _settled(blob: StoredBlob, running: set[str]) -> bool:
    return blob.key[0] not in running or blob.modified < datetime.now(UTC) - SETTLED
