"""Garbage is collected again and again, however young, while workers run and are killed: nothing needed is lost, and
all garbage goes in the end.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.domain.experiment import Spec, Status
from service.errors import ExperimentAlreadyFinished
from service.store import experiments
from service.store.audit import audit, orphans, remove
from service.store.blobs import Blobs
from service.store.session import Database

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 200
EXPERIMENTS = 16
EPOCHS = 12
WORKER = """
import signal, sys
from pathlib import Path
from service.engines.local import LocalEngine
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.session import Database
from service.worker import Worker

folder, database_url, blob_url = sys.argv[1:]
settings = Settings(data_dir=folder, slots=2, max_stack=1, lease_seconds=1, poll_seconds=0.02, max_attempts=100)
worker = Worker(
    database=Database(database_url),
    blobs=Blobs(blob_url),
    engine=LocalEngine(data_dir=Path(folder), stall_seconds=600, trainer="tests.trainers"),
    settings=settings,
)
signal.signal(signal.SIGTERM, lambda *_: worker.drain())
worker.run()
"""


class Site:
    """Worker processes on a database and a store of blobs."""

    def __init__(self, folder: Path, database: Database, url: str, blob_url: str) -> None:
        self.database = database
        self.blobs = Blobs(blob_url)
        self.log = folder / "log"
        self._arguments = [sys.executable, "-c", WORKER, str(folder), url, blob_url]
        self._workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> None:
        with self.log.open("ab") as log:
            self._workers.append(subprocess.Popen(self._arguments, stderr=log, env=dict(os.environ)))

    def kill_worker(self) -> None:
        worker = self._workers.pop(0)
        worker.kill()
        worker.wait()

    def drain(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait(DEADLINE_SECONDS)

    def by_status(self, wanted: Callable[[Status], bool]) -> list[str]:
        with self.database.read() as session:
            found = [experiments.get(session, one) for one in self.ids]
        return [one.id for one in found if wanted(one.status)]

    def create(self) -> None:
        specs = [
            Spec(activation="relu", depth=1, epochs=EPOCHS, name="keeps checkpoints", seed=i)
            for i in range(EXPERIMENTS)
        ]
        with self.database.write() as session:
            self.ids = experiments.create_many(session, specs)

    def litter(self) -> int:
        """What workers leave that are killed between a file and its row: also of what the next attempt will name."""
        running = self.by_status(lambda status: not status.terminal)
        for one in running:
            for content in (b"nobody names this", str(EPOCHS // 2).encode(), b"keras"):
                self.blobs.put(one, content)
        return len(running)


@contextlib.contextmanager
def collecting(site: Site) -> Iterator[list[int]]:
    """Collect without a pause: how many files went each time."""
    over, went, raised = threading.Event(), [], []

    def collect() -> None:
        try:
            while not over.is_set():
                found = orphans(site.database, site.blobs)
                remove(site.blobs, found)
                went.append(len(found))
        except BaseException as error:
            raised.append(error)
            raise

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield went
    finally:
        over.set()
        thread.join()
    assert raised == []


@pytest.fixture
def site(tmp_path: Path, database: Database, migrated_url: str, blob_url: str) -> Iterator[Site]:
    site = Site(tmp_path, database, migrated_url, blob_url)
    yield site
    site.drain()


def test_nothing_needed_is_lost_and_all_garbage_goes(site: Site) -> None:
    site.create()
    site.start_worker()
    site.start_worker()
    littered, ended = 0, 0
    with collecting(site) as went:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while ended < EXPERIMENTS:
            assert time.monotonic() < deadline, site.log.read_text()
            done = len(site.by_status(lambda status: status.terminal))
            if done // 4 > ended // 4:
                site.kill_worker()
                site.start_worker()
                littered += site.litter()
                for one in site.by_status(lambda status: status is Status.RUNNING)[:1]:
                    with contextlib.suppress(ExperimentAlreadyFinished), site.database.write() as session:
                        experiments.cancel(session, one)
            ended = done
            time.sleep(0.02)
        gone, *kept = site.by_status(lambda status: status is Status.SUCCEEDED)
        with site.database.write() as session:  # and the store is away when its files should go
            experiments.delete_finished(session, gone)
    site.ids.remove(gone)
    assert littered > 0
    assert sum(went) > 0
    assert len(kept) >= EXPERIMENTS // 2
    assert " is gone" not in site.log.read_text()  # no attempt missed its checkpoint
    site.drain()
    remove(site.blobs, orphans(site.database, site.blobs))
    report = audit(site.database, site.blobs)
    assert (report.missing, report.corrupt, report.orphans) == ([], [], [])
    assert report.checked == len(site.blobs.list())
    assert report.checked >= 2 * len(kept)
