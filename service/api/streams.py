"""How many event streams one caller may have open: each holds a connection, and there are only so many."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import RateLimited

__all__ = ["Streams"]

RETRY_SECONDS = 10


class Streams:
    """Counts those of this process."""

    def __init__(self, most: int) -> None:
        """`most` for each caller; 0 is no limit."""
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Hold one of the caller's places while the block runs.

        Raises:
            RateLimited: all of them are taken.
        """
        if self._most and self._open[caller] >= self._most:
            raise RateLimited(f"you have {self._most:,} event streams open: as many as one may", RETRY_SECONDS)
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
