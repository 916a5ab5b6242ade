"""Files of models and checkpoints: content-addressed, written whole or not at all, verified when read.

Each experiment has a folder of its own, so that deleting one can never take a file that another shares.

A store that is away is tried again for some seconds (`objects.py`), and then is `Unavailable`.
"""

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from service.errors import BlobCorrupt, BlobMissing, InvalidInput, Unavailable
from service.store.objects import container_is_missing, is_refused, open_store, why
from service.telemetry import traces

__all__ = ["Blobs", "StoredBlob"]

log = logging.getLogger("epochd.blobs")

ADDRESS = re.compile(r"\S*://\S*")
"""In what a store says of a URL that it does not understand: there may be a password in it."""

UNFINISHED = "#"
"""In the names of files that obstore is writing to a local folder: `object#1` becomes `object` when it is whole."""

PARTS_AT_ONCE = 2
"""How many parts of a large file, of 5 MiB each, share the line while it is sent."""


@dataclass(frozen=True, kw_only=True)
class StoredBlob:
    """One file of the store."""

    key: tuple[str, str]
    """Experiment and SHA-256."""
    modified: datetime
    """When it was last written, by the store's clock."""
    size: int
    """In bytes."""


class Blobs:
    """A store of bytes by experiment and SHA-256, on a local folder, S3, GCS or Azure."""

    def __init__(self, url: str) -> None:
        """Open the store. A local folder is made where it is missing; any other store is asked whether it lets us in.

        Raises:
            InvalidInput: the URL is not understood, or the store refuses us.
            Unavailable: it does not answer.
        """
        self._folder = _folder(url)
        try:
            if self._folder is not None:  # before the store makes it, as anybody's who may look
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store: ObjectStore = open_store(url)
        except (BaseError, ValueError, OSError) as error:
            reason = ADDRESS.sub("it", str(error).splitlines()[0])[:200]
            raise InvalidInput(f"the blob URL cannot be used: {reason}") from None
        if self._folder is None:
            self._knock(url)

    def _knock(self, url: str) -> None:
        place = "/".join(url.split("?")[0].split("/")[:3]).rpartition("@")[2]
        try:
            next(iter(self._store.list()), None)
        except (BaseError, OSError) as error:
            if is_refused(error):
                raise InvalidInput(f"the blob store {place} cannot be used: {why(error)}") from None
            raise Unavailable(f"the blob store {place} cannot be reached: {why(error)}") from None

    def put(self, experiment_id: str, data: bytes) -> str:
        """Write the bytes and return their SHA-256 in hexadecimal. Writing the same bytes again changes nothing.

        Raises:
            Unavailable: the store cannot be written. The file is there, whole, or it is not.
        """
        digest = hashlib.sha256(data).hexdigest()
        self._require_folder("written")
        try:
            with traces.span("blob put", kind="client", attributes={"epochd.bytes": len(data)}):
                self._store.put(_key(experiment_id, digest), data, max_concurrency=PARTS_AT_ONCE)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store cannot be written: {why(error)}") from None
        return digest

    def get(self, experiment_id: str, sha256: str) -> bytes:
        """Read and verify.

        Raises:
            BlobMissing: there is no such file.
            BlobCorrupt: its bytes do not have this SHA-256.
            Unavailable: the store cannot be read.
        """
        try:
            with traces.span("blob get", kind="client"):
                data = bytes(self._store.get(_key(experiment_id, sha256)).bytes())
        except (BaseError, OSError) as error:
            self._require_folder("read")
            if isinstance(error, FileNotFoundError) and not container_is_missing(error):
                raise BlobMissing(f"the file {sha256} of experiment {experiment_id} is gone") from None
            raise Unavailable(f"the blob store cannot be read: {why(error)}") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobCorrupt(f"the file {sha256} of experiment {experiment_id} is damaged")
        return data

    def list(self) -> "list[StoredBlob]":
        """Every file of the store, and in a local folder also those whose writing was cut short: the store itself
        does not show these, nor would it ever remove them.

        Raises:
            Unavailable: the store cannot be read.
        """
        self._require_folder("read")
        try:
            return [
                StoredBlob(key=(parts[0], parts[1]), modified=found["last_modified"], size=found["size"])
                for batch in self._store.list()
                for found in batch
                if len(parts := found["path"].split("/")) == 2
            ] + [*self._unfinished()]
        except (BaseError, OSError) as error:
            raise Unavailable(f"the blob store cannot be read: {why(error)}") from None

    def _unfinished(self) -> Iterator[StoredBlob]:
        for path in self._folder.glob(f"*/*{UNFINISHED}*") if self._folder else ():
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                found = path.stat()
                modified = datetime.fromtimestamp(found.st_mtime, UTC)
                yield StoredBlob(key=(path.parent.name, path.name), modified=modified, size=found.st_size)

    def delete(self, experiment_id: str, sha256: str) -> None:
        """Remove one file; one that is not there is no error.

        Raises:
            Unavailable: the store cannot be written.
        """
        self._require_folder("written")
        try:
            if self._folder and UNFINISHED in sha256:
                (self._folder / experiment_id / sha256).unlink(missing_ok=True)
                return
            self._store.delete(_key(experiment_id, sha256))
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError) and not container_is_missing(error):
                return
            raise Unavailable(f"the blob store cannot be written: {why(error)}") from None

    def _require_folder(self, act: str) -> None:
        """Whoever puts a file into a folder that is not there would make it, and a disk that is missing would be
        covered up.
        """
        if self._folder is not None and not self._folder.is_dir():
            raise Unavailable(f"the blob store cannot be {act}: its folder is not there")

    def discard(self, experiment_id: str, sha256: str) -> None:
        """Remove a file that no row names any more. When that fails it is garbage, and harmless."""
        try:
            self.delete(experiment_id, sha256)
        except Unavailable as error:
            log.warning("%s: %s of experiment %s stays", error, sha256, experiment_id)


def _folder(url: str) -> Path | None:
    return Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None


def _key(experiment_id: str, sha256: str) -> str:
    return f"{experiment_id}/{sha256}"
