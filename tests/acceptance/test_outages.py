"""What epochd needs goes away while it trains, and comes back: nobody is told a lie, and nothing is lost."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.acceptance.conftest import EPOCHD
from tests.chaos.system import Postgres

DEADLINE_SECONDS = 180.0
ENVIRONMENT = {
    "EPOCHD_LEASE_SECONDS": "2",  # shorter than any outage here: heartbeats must get through it too
    "EPOCHD_CHECKPOINT_SECONDS": "3600",  # none but on a drain, so that a run writes no blob before its end
    "EPOCHD_SLOTS": "1",
    "EPOCHD_LOG_LEVEL": "warning",
}
EPOCHS = 12
LONG = {"activation": "relu", "depth": 1, "epochs": EPOCHS, "units": 128, "batch_size": 100}
"""Long enough to be struck in its middle."""
SHORT = {"activation": "relu", "depth": 1, "epochs": 1}
LOCKED_SECONDS = 20
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""

Event = tuple[int, str, dict[str, Any]]
"""Id, kind and data of one event of a stream."""


def eventually(wanted: Callable[[], bool], what: object = "it") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not wanted():
        assert time.monotonic() < deadline, f"{what} never came"
        threading.Event().wait(0.02)


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream, each when it is whole: one that was cut off is none."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "event" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
        fields = {}


class Part:
    """One process of epochd, and what it says.

    It says that into a pipe: a test may forbid it to write files.
    """

    def __init__(self, *arguments: str, environment: dict[str, str], on: Sequence[str] = ()) -> None:
        """Start it, by the command `on` where that is given."""
        self.process = subprocess.Popen(
            [*on, EPOCHD, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True
        )
        self.lines: list[str] = []
        self._silent = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    def says(self, text: str, *, after: int = 0) -> str:
        """Wait for a line with this text, behind the first `after` lines."""
        found: list[str] = []

        def said() -> bool:
            found[:] = [line for line in self.lines[after:] if text in line]
            return bool(found) or self._silent

        with self._news:
            self._news.wait_for(said, DEADLINE_SECONDS)
        assert found, (text, self.lines)
        return found[0]

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as an operator does, and wait until nothing is left that could still say something."""
        self.process.terminate()
        code = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        assert not self._reader.is_alive(), "a process that it started is left"
        return code


class Site:
    """The API and workers as processes of their own, on one database and one data folder."""

    def __init__(self, data_dir: Path, database_url: str, **environment: str) -> None:
        self.data_dir = data_dir
        self.database_url = database_url
        self._environment = os.environ | ENVIRONMENT | environment | {
            "EPOCHD_DATA_DIR": str(data_dir),
            "EPOCHD_DATABASE_URL": database_url,
        }  # fmt: skip
        self.parts: list[Part] = []
        self.http = httpx.Client(timeout=60)

    def _start(self, *arguments: str, **environment: str) -> Part:
        part = Part(*arguments, environment=self._environment | environment)
        self.parts.append(part)
        return part

    def serve(self) -> None:
        """Start the API; again, where it was before."""
        port = self.http.base_url.port or 0
        self.api = self._start("serve", "--no-worker", "--port", str(port))
        banner = self.api.says("epochd is ready")
        self.http.base_url = httpx.URL(next(word for word in banner.split() if word.startswith("http://")))

    def work(self, **environment: str) -> Part:
        """Start a worker."""
        return self._start("worker", **environment)

    def ask(self, method: str, path: str, **values: Any) -> httpx.Response:
        """Send a request. It is answered with what was asked for, or with when to ask again."""
        response = self.http.request(method, path, **values)
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) > 0
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == 503
        else:
            assert response.is_success, (response.status_code, response.text)
        return response

    def insist(self, method: str, path: str, **values: Any) -> Any:
        """Ask until it is answered, as a patient client does."""
        found: list[httpx.Response] = []

        def answered() -> bool:
            found[:] = [self.ask(method, path, **values)]
            return found[0].is_success

        eventually(answered, path)
        return found[0].json()

    def create(self, spec: dict[str, Any]) -> str:
        experiment_id: str = self.insist("POST", "/experiments", json=spec)["id"]
        return experiment_id

    def get(self, experiment_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.insist("GET", f"/experiments/{experiment_id}")
        return found

    def reaches(self, experiment_id: str, epoch: int) -> dict[str, Any]:
        """Wait until it has trained so far, and not to its end."""
        eventually(lambda: self.get(experiment_id)["progress"]["epoch"] >= epoch, f"epoch {epoch}")
        found = self.get(experiment_id)
        assert found["finished_at"] is None, "it was too quick: give it more epochs"
        return found

    def succeeded(self, experiment_id: str) -> dict[str, Any]:
        eventually(lambda: self.get(experiment_id)["finished_at"] is not None, "the end")
        found = self.get(experiment_id)
        assert found["status"] == "succeeded", found
        return found

    def tagged(self, tag: str) -> list[str]:
        page = self.insist("GET", "/experiments", params={"tag": tag, "limit": 200})
        return [experiment["id"] for experiment in page["data"]]

    def events(self, experiment_id: str) -> list[Event]:
        """Every event of an experiment that has ended."""
        return list(read_events(self.http.get(f"/experiments/{experiment_id}/events").raise_for_status().iter_lines()))

    def stop(self) -> None:
        running = [part for part in self.parts if part.process.poll() is None]
        try:
            for part in reversed(running):  # workers first: what serves them goes last
                part.stop()
        finally:
            for part in running:
                part.kill()
            self.http.close()


@contextlib.contextmanager
def started(data_dir: Path, database_url: str, **environment: str) -> Iterator[Site]:
    """The API alone; workers are the test's to start. Leaves no process behind."""
    found = Site(data_dir, database_url, **environment)
    try:
        found.serve()
        yield found
    finally:
        found.stop()


class MortalPostgres(Postgres):
    """A PostgreSQL server that is killed, and starts again when it is told to."""

    def kill(self) -> None:
        postmaster = psutil.Process(self._server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)  # it leaves at once, as in a crash
        postmaster.wait(DEADLINE_SECONDS)

    def start(self) -> None:
        self._server.start()

    def cut(self) -> int:
        """Cut every connection that epochd has. Returns how many they were."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'epochd'"
            ).fetchall()
        return len(rows)


class OnPostgres:
    """A site on a server of its own, with one worker of one slot: no other can take over what it waits with."""

    def __init__(self, site: Site, server: MortalPostgres) -> None:
        self.site = site
        self.server = server
        self.worker = site.work()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[OnPostgres]:
    """One for all tests here: whatever they do to it, it is never started again."""
    folder = tmp_path_factory.mktemp("outages")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
    server = MortalPostgres()
    try:
        with started(folder, server.url) as found:
            yield OnPostgres(found, server)
            assert all(part.process.poll() is None for part in found.parts)
    finally:
        server.close()


def test_while_postgresql_is_dead_clients_are_told_to_come_back_and_afterwards_training_goes_on(
    system: OnPostgres,
) -> None:
    site, worker = system.site, system.worker
    created = site.create(LONG)
    site.reaches(created, 2)
    said = len(worker.lines)
    system.server.kill()
    try:
        assert site.ask("POST", "/experiments", json=SHORT).status_code == 503
        assert site.ask("GET", "/experiments").status_code == 503
        assert site.ask("GET", f"/experiments/{created}/events").status_code == 503
        assert site.ask("GET", "/health/ready").status_code == 503
        assert site.ask("GET", "/health/live").status_code == 200
        worker.says("trying again", after=said)
    finally:
        system.server.start()
    found = site.succeeded(created)
    assert (found["attempt"], found["progress"]["epoch"]) == (1, EPOCHS)
    assert site.succeeded(site.create(SHORT))["attempt"] == 1
    assert site.ask("GET", "/health/ready").status_code == 200


def follow(http: httpx.Client, experiment_id: str, found: list[Event]) -> None:
    """Read the stream to its end, coming back where it broke off."""

    def done() -> bool:
        last = found[-1][0] if found else 0
        with (
            contextlib.suppress(httpx.TransportError),  # it broke off
            http.stream("GET", f"/experiments/{experiment_id}/events", headers={"Last-Event-ID": str(last)}) as stream,
        ):
            assert stream.status_code in {200, 503}
            if stream.status_code == 503:
                assert "retry-after" in stream.headers
            else:
                found.extend(read_events(stream.iter_lines()))
        return bool(found) and found[-1][1] == "done"

    eventually(done, "the stream's end")


def test_who_follows_events_through_an_outage_misses_nothing_and_sees_nothing_twice(system: OnPostgres) -> None:
    site, worker = system.site, system.worker
    created = site.create(LONG)
    found: list[Event] = []
    with httpx.Client(base_url=site.http.base_url, timeout=60) as http, ThreadPoolExecutor() as pool:
        following = pool.submit(follow, http, created, found)
        eventually(lambda: following.done() or any(kind == "epoch" for _, kind, _ in found), "the first epoch")
        said = len(worker.lines)
        system.server.kill()
        try:
            worker.says("trying again", after=said)
            assert site.ask("GET", f"/experiments/{created}/events").status_code == 503
        finally:
            system.server.start()
        following.result(DEADLINE_SECONDS)
    assert [number for number, _, _ in found] == list(range(1, 2 + EPOCHS + 2 + 1))
    assert [kind for _, kind, _ in found] == ["status", "status", *["epoch"] * EPOCHS, "status", "done"]
    assert [data["epoch"] for _, kind, data in found if kind == "epoch"] == list(range(1, EPOCHS + 1))
    assert found == site.events(created)


def test_when_every_connection_is_cut_again_and_again_clients_get_answers_and_training_goes_on(
    system: OnPostgres,
) -> None:
    site = system.site
    created = site.create(LONG | {"priority": 1})
    site.reaches(created, 1)
    over = threading.Event()

    def client(number: int) -> int:
        """Queue one experiment after another, each under a key of its own, and take it back."""
        made = 0
        while not over.is_set():
            spec = SHORT | {"tags": ["cut"]}
            key = {"Idempotency-Key": f"cut-{number}-{made}"}
            queued = site.insist("POST", "/experiments", json=spec, headers=key)
            made += 1
            site.insist("POST", f"/experiments/{queued['id']}/cancel")
            site.ask("GET", "/experiments")
        return made

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        try:
            for epoch in (2, 3, 4, 5, 6):
                site.reaches(created, epoch)
                assert system.server.cut() > 0
        finally:
            over.set()
        made = sum(one.result(DEADLINE_SECONDS) for one in clients)
    found = site.succeeded(created)
    assert (found["attempt"], found["progress"]["epoch"]) == (1, EPOCHS)
    told = site.insist("GET", f"/experiments/{created}/metrics")["epochs"]
    assert [epoch["epoch"] for epoch in told] == list(range(1, EPOCHS + 1))
    assert made >= 4
    assert count(system, "cut") == made


def count(system: OnPostgres, tag: str) -> int:
    with psycopg.connect(system.server.url) as connection:
        row = connection.execute("SELECT count(*) FROM experiment_tags WHERE tag = %s", [tag]).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux lets another process's limits be set")
def test_when_the_disk_is_full_an_experiment_stays_running_and_succeeds_once_there_is_room(system: OnPostgres) -> None:
    """A process that may write no file of more than ten bytes meets the full disk's error in every write of a blob."""
    site, worker = system.site, system.worker
    created = site.create(LONG)
    site.reaches(created, 1)  # its trainer runs already, and does not inherit the limit
    pid = worker.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    said = len(worker.lines)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        worker.says("the blob store cannot be written: File too large; trying again", after=said)
        worker.says("the blob store cannot be written: File too large; trying again", after=len(worker.lines))
        found = site.get(created)
        assert (found["status"], found["progress"]["epoch"]) == ("running", EPOCHS)
        waiting = site.create(SHORT)
        assert site.get(waiting)["status"] == "queued"
        assert site.ask("GET", "/health/ready").status_code == 200
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    found = site.succeeded(created)
    assert found["attempt"] == 1
    site.succeeded(waiting)
    folder = site.data_dir / "blobs" / created
    named = {file["sha256"] for file in found["model"]["formats"].values()}
    assert {path.name for path in folder.iterdir()} == named  # the writes that failed left nothing
    check = subprocess.run(
        [EPOCHD, "db", "check", "--data-dir", str(site.data_dir), "--database-url", site.database_url],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    assert "0 missing, 0 damaged, 0 orphaned" in check.stdout


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """SQLite's write lock in the hands of another process."""
    other = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        yield
        other.stdin.close()
    assert other.returncode == 0


def test_while_another_process_locks_sqlite_reads_go_on_writes_come_back_later_and_training_waits(
    data_dir: Path,
) -> None:
    path = data_dir / "epochd.sqlite3"
    asked = {"json": SHORT | {"tags": ["once"]}, "headers": {"Idempotency-Key": "once"}}
    with started(data_dir, f"sqlite:///{path}") as site:
        worker = site.work()
        created = site.create(LONG)
        site.reaches(created, 2)
        said = len(worker.lines)
        with locked(path):
            until = time.monotonic() + LOCKED_SECONDS
            refused = 0
            while time.monotonic() < until:
                assert site.ask("POST", "/experiments", **asked).status_code == 503
                refused += 1
                assert site.ask("GET", "/experiments").status_code == 200
                assert site.ask("GET", f"/experiments/{created}").json()["status"] == "running"
            assert refused > 0
            worker.says("it is locked; trying again", after=said)
        first = site.insist("POST", "/experiments", **asked)
        again = site.insist("POST", "/experiments", **asked)
        assert first["id"] == again["id"]
        assert site.tagged("once") == [first["id"]]
        ended = site.succeeded(created)
        assert (ended["attempt"], ended["progress"]["epoch"]) == (1, EPOCHS)
        assert site.succeeded(first["id"])["attempt"] == 1
