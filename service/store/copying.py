"""Files from one blob store to another, several at once, each verified on its way."""

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from service.errors import BlobCorrupt, BlobMissing
from service.store.blobs import Blobs

__all__ = ["Copier"]

AT_ONCE = 4
"""Files on their way, each whole in memory. A store answers in milliseconds, and there may be a million."""
BATCH = 1000

Key = tuple[str, str]


class Copier:
    """Copies into a store what it does not have yet. What was copied, or found there whole, is not looked at again."""

    def __init__(self, source: Blobs, target: Blobs) -> None:
        """Look at what the target has.

        Raises:
            Unavailable: the target cannot be read.
        """
        self._source = source
        self._target = target
        self._there = {blob.key for blob in target.list()}
        self.sizes: dict[Key, int] = {}
        """Bytes of each file that the target is known to have whole."""

    def copy(self, keys: Iterable[Key]) -> list[Key]:
        """Copy these, and return those that the source does not have, or not whole.

        Raises:
            Unavailable: one of the stores is away.
        """
        wanted = iter(dict.fromkeys(key for key in keys if key not in self.sizes))
        lost: list[Key] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while batch := list(itertools.islice(wanted, BATCH)):
                for key, size in zip(batch, pool.map(self._one, batch), strict=True):
                    if size is None:
                        lost.append(key)
                    else:
                        self.sizes[key] = size
        return lost

    def _one(self, key: Key) -> int | None:
        if key in self._there:
            try:
                return len(self._target.get(*key))
            except (BlobMissing, BlobCorrupt):
                pass
        try:
            data = self._source.get(*key)
        except (BlobMissing, BlobCorrupt):
            return None
        self._target.put(key[0], data)
        return len(data)
