"""What the system itself costs for each experiment, each idle worker and each event stream, on PostgreSQL.

Real worker processes with a trainer that trains nothing. The database's own time is the CPU time of its processes.
From these a system of any size can be reckoned: see docs/scaling.md.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg

from benchmarks.options import Options
from benchmarks.postgres import postgres
from benchmarks.processes import free_port, running, wait_ready
from benchmarks.report import Line, median
from service.domain.experiment import Spec
from service.store import experiments, schema
from service.store.session import Database

__all__ = ["measure"]

WORKERS = (1, 2, 4)
EXPERIMENTS = 300
ROUNDS = 3
IDLE_SECONDS = 10.0
STREAMS = 50


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the database's server has done in some time."""

    seconds: float
    transactions: float
    cpu_seconds: float
    wal_bytes: float


class Server:
    """A PostgreSQL server, and what it has spent."""

    def __init__(self, url: str, process: int) -> None:
        self.url = url
        self._process = psutil.Process(process)
        self._connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        """Close the connection that asks."""
        self._connection.close()

    @contextlib.contextmanager
    def measured(self) -> Iterator[list[Spent]]:
        """At the end the list holds what was spent in the block."""
        found: list[Spent] = []
        begun, before = time.perf_counter(), self._now()
        yield found
        seconds, after = time.perf_counter() - begun, self._now()
        transactions, cpu, wal = (late - early for late, early in zip(after, before, strict=True))
        found.append(Spent(seconds=seconds, transactions=transactions, cpu_seconds=cpu, wal_bytes=wal))

    def _now(self) -> tuple[float, float, float]:
        self._connection.execute("SELECT pg_stat_force_next_flush()")
        row = self._connection.execute(
            "SELECT (SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database),"
            " pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
        ).fetchone()
        assert row is not None
        return float(row[0]), self._cpu(), float(row[1])

    def _cpu(self) -> float:
        """Of every process of the server, those that have ended among them."""
        seconds = 0.0
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        ended = self._process.cpu_times()
        return seconds + ended.children_user + ended.children_system


@contextlib.contextmanager
def _workers(count: int, url: str, folder: Path) -> Iterator[list[psutil.Process]]:
    command = [sys.executable, "-m", "benchmarks.null_worker", url, str(folder)]
    started = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield [psutil.Process(one.pid) for one in started]
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait(60)


def _until_listed(connection: psycopg.Connection, count: int) -> None:
    while (connection.execute("SELECT count(*) FROM workers").fetchone() or (0,))[0] != count:
        time.sleep(0.05)


def _drained(server: Server, database: Database) -> Spent:
    """Queue experiments at once, and wait until all are done."""
    with database.write() as session:
        experiments.create_many(session, [Spec(activation="relu", depth=1, seed=seed) for seed in range(EXPERIMENTS)])
    with server.measured() as found, psycopg.connect(server.url, autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM experiments WHERE status <> 'succeeded' LIMIT 1").fetchone():
            time.sleep(0.05)
    return found[0]


def measure(options: Options) -> Iterator[Line]:
    """Yield the costs, and how many experiments a second 1, 2 and 4 workers carry."""
    rounds = options.rounds or ROUNDS
    with contextlib.ExitStack() as kept:
        outer = Path(kept.enter_context(tempfile.TemporaryDirectory()))
        outer.chmod(0o755)  # the server may run as another user
        url, process = kept.enter_context(postgres(outer, {}))
        folder = outer / "epochd"
        folder.mkdir()
        database = Database(url)
        schema.upgrade(database)
        with contextlib.closing(Server(url, process)) as server, contextlib.closing(database):
            yield from _training(server, database, folder, rounds)
            yield from _idle(server, folder)
            yield from _streams(server, folder, options)


def _training(server: Server, database: Database, folder: Path, rounds: int) -> Iterator[Line]:
    spent: dict[int, list[Spent]] = {count: [] for count in WORKERS}
    for _ in range(rounds):
        for count in WORKERS:
            with _workers(count, server.url, folder), psycopg.connect(server.url, autocommit=True) as connection:
                _until_listed(connection, count)
                spent[count].append(_drained(server, database))
    for count, found in spent.items():
        rate = median([EXPERIMENTS / one.seconds for one in found])
        yield Line(
            what=f"experiments without training, {count} {'worker' if count == 1 else 'workers'}",
            value=rate,
            unit="/s",
            detail=f"{EXPERIMENTS} of 10 epochs each; "
            f"{median([one.transactions / EXPERIMENTS for one in found]):.1f} transactions, "
            f"{1000 * median([one.cpu_seconds / EXPERIMENTS for one in found]):.2f} ms of the database's CPU and "
            f"{median([one.wal_bytes / EXPERIMENTS for one in found]) / 1000:.1f} kB of WAL each",
        )


def _idle(server: Server, folder: Path) -> Iterator[Line]:
    rates = {}
    for count in (0, *WORKERS):
        with _workers(count, server.url, folder), psycopg.connect(server.url, autocommit=True) as connection:
            _until_listed(connection, count)
            time.sleep(3)  # the first looks are not idleness
            with server.measured() as found:
                time.sleep(IDLE_SECONDS)
        rates[count] = found[0].transactions / found[0].seconds
    most = WORKERS[-1]
    yield Line(
        what="transactions of an idle worker",
        value=(rates[most] - rates[0]) / most,
        unit="/s",
        detail=", ".join(f"{count} workers {rate:.2f}/s" for count, rate in rates.items()),
    )


def _streams(server: Server, folder: Path, options: Options) -> Iterator[Line]:
    port = free_port()
    where = f"http://127.0.0.1:{port}"
    command = ["-m", "service.cli", "serve", "--no-worker", "--port", str(port), "--database-url", server.url]
    (folder / "datasets").symlink_to(options.datasets)
    with running(command, folder) as process, httpx.Client(base_url=where, timeout=60) as api:
        wait_ready(where)
        api_process = psutil.Process(process.pid)
        path = api.post("/experiments", json={"activation": "relu", "depth": 1}).raise_for_status().headers["location"]
        limits = httpx.Limits(max_connections=STREAMS + 1)
        with contextlib.ExitStack() as open_, httpx.Client(base_url=where, timeout=60, limits=limits) as client:
            for _ in range(STREAMS):
                open_.enter_context(client.stream("GET", f"{path}/events"))
            with server.measured() as found:
                before = api_process.cpu_times()
                time.sleep(IDLE_SECONDS)
                after = api_process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    yield Line(
        what="transactions of an open event stream",
        value=found[0].transactions / found[0].seconds / STREAMS,
        unit="/s",
        detail=f"{STREAMS} streams of an experiment that waits; the API took {100 * cpu / found[0].seconds:.0f}% of a "
        f"core, the database {100 * found[0].cpu_seconds / found[0].seconds:.0f}%",
    )
