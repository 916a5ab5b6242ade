"""What a backup is: rows in parts, files beside them, and a manifest that is written last.

```text
backup.json                  the manifest; without it the backup is not whole
rows/TABLE/SHA-256           some rows of a table: JSON lines, gzip
files/EXPERIMENT/SHA-256     models and checkpoints, as the blob store has them
```

Rows are written as values, not as SQL: so a backup of SQLite can be restored into PostgreSQL, and the other way. All
names but the manifest's are made of contents, and whatever is read is verified by them.
"""

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import orjson
from obstore.exceptions import BaseError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BlobCorrupt, BlobMissing, Conflict, InvalidInput, Unavailable
from service.store.blobs import Blobs
from service.store.objects import container_is_missing, open_store, why

__all__ = ["Archive", "Key", "Manifest", "Part", "files_of"]

MANIFEST = "backup.json"
BEGUN = "unfinished.json"
"""Says of a place that what is in it is a backup's that was begun: until the manifest is written."""

Key = tuple[str, str]
"""Experiment and SHA-256."""


class Part(BaseModel):
    """Some rows of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int = Field(ge=0)


class Manifest(BaseModel):
    """What a whole backup holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    version: str
    """The epochd that made it."""
    revision: str
    """Of the schema that the rows have."""
    taken_at: datetime
    """The moment that it shows, by the database's clock."""
    database: Literal["sqlite", "postgresql"]
    tables: dict[str, tuple[Part, ...]]
    files: int
    file_bytes: int
    deleted: tuple[str, ...] = ()
    """Experiments that are among the rows, and were deleted before their files could be copied."""
    damaged: tuple[Key, ...] = ()
    """Files that rows name and that the blob store did not have, or not whole."""

    @property
    def rows(self) -> int:
        """In all tables."""
        return sum(part.rows for parts in self.tables.values() for part in parts)


class Archive:
    """A place for one backup: a folder, or a prefix in an object store."""

    def __init__(self, place: str, *, make: bool = False) -> None:
        """Open it. `place` is a path or a URL as `EPOCHD_BLOB_URL` takes it; a folder that is not there is made only
        where `make` says so.

        Raises:
            InvalidInput: there is no such place, or it refuses us.
            Unavailable: it does not answer.
        """
        self.place = place
        url = place.rstrip("/") if "://" in place else Path(place).expanduser().absolute().as_uri()
        if not make and url.startswith("file:") and not Path(url2pathname(urlsplit(url).path)).is_dir():
            raise InvalidInput(f"there is no folder {place}")
        self._url = url
        self.blobs = Blobs(f"{url}/files")
        self._rows = Blobs(f"{url}/rows")
        self._top = open_store(url)

    def overlaps(self, blob_url: str) -> bool:
        """Whether one of the two is in the other: what is in this place and not of the backup is removed."""
        ours, theirs = f"{self._url}/", f"{blob_url.rstrip('/')}/"
        return ours.startswith(theirs) or theirs.startswith(ours)

    def manifest(self) -> Manifest | None:
        """What the backup holds, or None where no whole backup is.

        Raises:
            InvalidInput: the manifest is damaged, or of a newer epochd.
            Unavailable: the place cannot be read.
        """
        try:
            text = bytes(self._top.get(MANIFEST).bytes())
        except FileNotFoundError as error:
            if container_is_missing(error):
                raise InvalidInput(f"{self.place} cannot be used: {why(error)}") from None
            return None
        except (BaseError, OSError) as error:
            raise Unavailable(f"{self.place} cannot be read: {why(error)}") from None
        try:
            return Manifest.model_validate_json(text)
        except ValidationError:
            raise InvalidInput(f"{MANIFEST} in {self.place} is damaged, or of an epochd that is newer") from None

    def begin(self) -> None:
        """Take the place for a backup, or go on with one that was begun there. From then on, what is in it and does not
        belong to the backup is removed.

        Raises:
            Conflict: it holds a backup, or what is none of ours.
            Unavailable: it cannot be read or written.
        """
        if self.manifest() is not None:
            raise Conflict(f"{self.place} holds a backup already: give another place")
        try:
            with contextlib.suppress(FileNotFoundError):
                self._top.head(BEGUN)
                return
            if next(iter(self._top.list(chunk_size=1)), None):
                raise Conflict(f"{self.place} is not empty, and holds no backup that was begun: give a new place")
            self._top.put(BEGUN, b"{}")
        except (BaseError, OSError) as error:
            raise Unavailable(f"{self.place} cannot be used: {why(error)}") from None

    def complete(self, manifest: Manifest) -> None:
        """Remove what an earlier try has left, and then declare the backup whole.

        Raises:
            Unavailable: the place cannot be written.
        """
        parts = {(table, part.sha256) for table, found in manifest.tables.items() for part in found}
        for blob in self._rows.list():
            if blob.key not in parts:
                self._rows.delete(*blob.key)
        try:
            self._top.put(MANIFEST, json.dumps(manifest.model_dump(mode="json"), indent=2).encode())
            with contextlib.suppress(FileNotFoundError):
                self._top.delete(BEGUN)
        except (BaseError, OSError) as error:
            raise Unavailable(f"{self.place} cannot be written: {why(error)}") from None

    def put_rows(self, table: str, rows: Iterable[Mapping[str, Any]]) -> Part:
        """Write some rows of a table: values that JSON has, and dates and moments.

        Raises:
            Unavailable: the place cannot be written.
        """
        lines = [orjson.dumps(dict(row)) for row in rows]
        sha256 = self._rows.put(table, gzip.compress(b"\n".join(lines), compresslevel=3, mtime=0))
        return Part(sha256=sha256, rows=len(lines))

    def rows(self, table: str, part: Part) -> Iterator[dict[str, Any]]:
        """Read them again; dates and moments come as text.

        Raises:
            BlobCorrupt: the part is gone, or has other bytes or another number of rows.
            Unavailable: the place cannot be read.
        """
        try:
            data = self._rows.get(table, part.sha256)
            lines = gzip.decompress(data).split(b"\n")
            if len(lines) != part.rows:
                raise BlobCorrupt(f"the backup is damaged: {part.rows:,} rows of {table} should be {len(lines):,}")
            for line in lines:
                row = orjson.loads(line)
                if not isinstance(row, dict):
                    raise BlobCorrupt(f"the backup is damaged: what should be rows of {table} are none")
                yield row
        except (BlobMissing, OSError, EOFError, ValueError, zlib.error):
            raise BlobCorrupt(f"the backup is damaged: rows of {table} are gone, or not as they were") from None

    def table(self, manifest: Manifest, table: str) -> Iterator[dict[str, Any]]:
        """All rows of a table, but those of experiments that were deleted while the backup was made."""
        deleted = set(manifest.deleted)
        of = "id" if table == "experiments" else "experiment_id"
        for part in manifest.tables[table]:
            yield from (row for row in self.rows(table, part) if str(row.get(of)) not in deleted)


def files_of(row: Mapping[str, Any]) -> list[Key]:
    """The files that a row of `experiments` names."""
    names = ("keras_sha256", "onnx_sha256", "checkpoint_sha256")
    return [(row["id"], row[name]) for name in names if row[name] is not None]
