"""Files of models and checkpoints: content-addressed, written whole or not at all, verified when read.

Each experiment has a folder of its own, so that deleting one can never take a file that another shares.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from service.errors import BlobCorrupt, BlobMissing, InvalidInput, Unavailable

__all__ = ["Blobs", "StoredBlob"]

log = logging.getLogger("epochd.blobs")

UNFINISHED = "#"
"""In the names of files that obstore is writing to a local folder: `object#1` becomes `object` when it is whole."""


@dataclass(frozen=True, kw_only=True)
class StoredBlob:
    """One file of the store."""

    key: tuple[str, str]
    """Experiment and SHA-256."""
    modified: datetime
    """When it was last written, by the store's clock."""


class Blobs:
    """A store of bytes by experiment and SHA-256, on a local folder, S3, GCS or Azure."""

    def __init__(self, url: str) -> None:
        """Open the store; a local folder is made where it is missing.

        Raises:
            InvalidInput: the URL is not understood.
        """
        self._folder = _folder(url)
        try:
            self._store: ObjectStore = _open(url)
        except (BaseError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0][:200]
            raise InvalidInput(f"the blob URL cannot be used: {reason}") from None

    def put(self, experiment_id: str, data: bytes) -> str:
        """Write the bytes and return their SHA-256 in hexadecimal. Writing the same bytes again changes nothing."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            self._store.put(_key(experiment_id, digest), data)
        except (BaseError, OSError) as error:
            raise Unavailable("the blob store cannot be written") from error
        return digest

    def get(self, experiment_id: str, sha256: str) -> bytes:
        """Read and verify.

        Raises:
            BlobMissing: there is no such file.
            BlobCorrupt: its bytes do not have this SHA-256.
            Unavailable: the store cannot be read.
        """
        try:
            data = bytes(self._store.get(_key(experiment_id, sha256)).bytes())
        except (NotFoundError, FileNotFoundError):
            raise BlobMissing(f"the file {sha256} of experiment {experiment_id} is gone") from None
        except (BaseError, OSError) as error:
            raise Unavailable("the blob store cannot be read") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobCorrupt(f"the file {sha256} of experiment {experiment_id} is damaged")
        return data

    def list(self) -> "list[StoredBlob]":
        """Every file of the store, and in a local folder also those whose writing was cut short: the store itself
        does not show these, nor would it ever remove them.

        Raises:
            Unavailable: the store cannot be read.
        """
        try:
            return [
                StoredBlob(key=(parts[0], parts[1]), modified=found["last_modified"])
                for batch in self._store.list()
                for found in batch
                if len(parts := found["path"].split("/")) == 2
            ] + [*self._unfinished()]
        except (BaseError, OSError) as error:
            raise Unavailable("the blob store cannot be read") from error

    def _unfinished(self) -> Iterator[StoredBlob]:
        for path in self._folder.glob(f"*/*{UNFINISHED}*") if self._folder else ():
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield StoredBlob(key=(path.parent.name, path.name), modified=modified)

    def delete(self, experiment_id: str, sha256: str) -> None:
        """Remove one file; one that is not there is no error."""
        try:
            if self._folder and UNFINISHED in sha256:
                (self._folder / experiment_id / sha256).unlink(missing_ok=True)
                return
            self._store.delete(_key(experiment_id, sha256))
        except (NotFoundError, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise Unavailable("the blob store cannot be written") from error

    def discard(self, experiment_id: str, sha256: str) -> None:
        """Remove a file that no row names any more. When that fails it is garbage, and harmless."""
        try:
            self.delete(experiment_id, sha256)
        except Unavailable as error:
            log.warning("%s: %s of experiment %s stays", error, sha256, experiment_id)


def _open(url: str) -> ObjectStore:
    if url.startswith("file:"):
        return LocalStore.from_url(url, mkdir=True)
    return from_url(url)


def _folder(url: str) -> Path | None:
    return Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None


def _key(experiment_id: str, sha256: str) -> str:
    return f"{experiment_id}/{sha256}"
