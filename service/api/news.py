"""Wakes event streams when there is something new for them: one look for all streams of this process, every
`poll_seconds`, in place of one for each.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

from service.errors import Unavailable
from service.settings import Settings
from service.store import experiments
from service.store.session import Database

__all__ = ["News", "Subscription"]

PATIENCE_SECONDS = 5.0
"""How often a stream looks, at least, whatever it is told."""
STOP_SECONDS = 0.25
"""How soon a stream notices that the server stops."""


class Subscription:
    """One stream's."""

    def __init__(self, experiment_id: str) -> None:
        self.experiment_id = experiment_id
        self.read = 0
        """The last event that the stream has given."""
        self._loop = asyncio.get_running_loop()
        self._new = asyncio.Event()

    def tell(self) -> None:
        """There is something new. May be called from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._new.set)

    async def wait(self, stopping: threading.Event) -> None:
        """Return when there is something new, when it is time to look anyway, or when the server stops."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not stopping.is_set() and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._new.wait(), min(left, STOP_SECONDS))
                break
        self._new.clear()


class News:
    """All subscriptions of this process, and the thread that looks for them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._poll_seconds = settings.poll_seconds
        self._subscriptions: set[Subscription] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="news", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextlib.contextmanager
    def subscribe(self, experiment_id: str) -> Iterator[Subscription]:
        """Hear of an experiment's events while the block lasts."""
        subscription = Subscription(experiment_id)
        with self._lock:
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)

    def _look(self) -> None:
        while not self._closed.wait(self._poll_seconds):
            with self._lock:
                waiting = list(self._subscriptions)
            if not waiting:
                continue
            try:
                with self._database.read() as session:
                    last = experiments.last_events(session, {one.experiment_id for one in waiting})
            except Unavailable:  # streams notice it themselves
                continue
            for one in waiting:
                if last.get(one.experiment_id, one.read + 1) > one.read:  # or it was deleted
                    one.tell()
