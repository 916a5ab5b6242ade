"""Is a database of a million experiments as fast as one of a thousand? On SQLite and on PostgreSQL, in turns.

What clients ask goes through the API by HTTP, with a server process for each database. What workers do goes through
the functions of the store that they call, each in a transaction that is committed.
"""

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from benchmarks.filling import Filled, fill
from benchmarks.options import Options
from benchmarks.postgres import postgres
from benchmarks.processes import free_port, running, wait_ready
from benchmarks.report import Line, median
from service.domain.experiment import EpochMetrics
from service.store import experiments, queue
from service.store.listing import Sort, cursor_after
from service.store.session import Database

__all__ = ["compare", "measure"]

SMALL = 1_000
ROUNDS = 60
BUDGET = 1.5
MOST = 4
"""Experiments that a claim takes along."""
SPEC = {"activation": "relu", "depth": 2}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two databases, with a server."""

    filled: Filled
    api: httpx.Client
    database: Database

    def deep(self, sort: Sort) -> str:
        """The cursor of a place far from the beginning."""
        experiment_id = self.filled.ids[len(self.filled.ids) // 2]
        with self.database.read() as session:
            return cursor_after(sort, experiments.get(session, experiment_id))


Question = Callable[[Side, random.Random], str]
"""The path to ask for, drawn anew every time: what was just read is in memory."""


def _same(path: str) -> Question:
    return lambda _side, _draw: path


def _list(query: str) -> Question:
    return _same(f"/experiments?{query}")


def _deep(sort: Sort, more: str = "") -> Question:
    return lambda side, _draw: f"/experiments?sort={sort}&cursor={side.deep(sort)}{more}"


def _one(path: str) -> Question:
    return lambda side, draw: path.format(draw.choice(side.filled.ids))


def _sweep(path: str) -> Question:
    return lambda side, draw: path.format(draw.choice(side.filled.sweeps))


QUESTIONS: Mapping[str, Question] = {
    "list": _list(""),
    "list, deep page": _deep("-created_at"),
    "list, oldest first": _list("sort=created_at"),
    "list by accuracy": _list("sort=-test_accuracy"),
    "list by accuracy, ascending": _list("sort=test_accuracy"),
    "list by accuracy, deep page": _deep("-test_accuracy"),
    "list of status": _list("status=succeeded"),
    "list of status, deep page": _deep("-created_at", "&status=succeeded"),
    "list of two statuses": _list("status=failed&status=cancelled"),
    "list of what waits or runs": _list("status=queued&status=running&status=cancelling"),
    "list of status by accuracy": _list("status=succeeded&sort=-test_accuracy"),
    "list of a common tag": _list("tag=nightly"),
    "list of a common tag, deep page": _deep("-created_at", "&tag=nightly"),
    "list of a common tag by accuracy": _list("tag=nightly&sort=-test_accuracy"),
    "list of a rare tag": _list("tag=rare"),
    "list of a rare tag by accuracy": _list("tag=rare&sort=-test_accuracy"),
    "list of two tags": _list("tag=nightly&tag=rare"),
    "list of an arm": _list("activation=relu&depth=2"),
    "list of an arm by accuracy": _list("activation=relu&depth=2&sort=-test_accuracy"),
    "list of an activation": _list("activation=relu"),
    "list of an activation nobody took": _list("activation=sparsemax"),
    "list of an activation by accuracy": _list("activation=relu&sort=-test_accuracy"),
    "list of a depth": _list("depth=2"),
    "list of a dataset": _list("dataset=mnist"),
    "list of a dataset nobody took": _list("dataset=fashion_mnist"),
    "list of a dataset by accuracy": _list("dataset=mnist&sort=-test_accuracy"),
    "list of what has no model by accuracy": _list("status=failed&sort=test_accuracy"),
    "list of a sweep": _sweep("/experiments?sweep_id={}"),
    "list of a sweep by accuracy": _sweep("/experiments?sweep_id={}&sort=-test_accuracy"),
    "get": _one("/experiments/{}"),
    "metrics": _one("/experiments/{}/metrics"),
    "events": _one("/experiments/{}/events"),
    "alias": _same("/models/champion"),
    "best": _same("/models/best"),
    "list of sweeps": _same("/sweeps?limit=10"),
    "sweep": _sweep("/sweeps/{}"),
    "comparison": _sweep("/sweeps/{}/comparison"),
}


def measure(options: Options) -> Iterator[Line]:
    """Yield for each database and question the median of the large over that of the small, and bytes."""
    for kind, empty in (("SQLite", _sqlite), ("PostgreSQL", _postgresql)):
        with tempfile.TemporaryDirectory(prefix="epochd-scale-") as folder, empty(Path(folder)) as (one, other):
            small, large = fill(one, SMALL), fill(other, options.experiments)
            yield from compare(kind, small, large, options.rounds or ROUNDS)


def compare(kind: str, small: Filled, large: Filled, rounds: int) -> Iterator[Line]:
    """Yield the ratios of two databases that are full."""
    draw = random.Random(0)
    with _side(small) as one, _side(large) as other:
        sides = (one, other)
        for what, question in QUESTIONS.items():
            yield _line(kind, what, _asked(question, sides, rounds, draw), small, large)
        created: list[list[float]] = [[], []]
        steps: dict[str, list[list[float]]] = {}
        for _ in range(rounds):
            for place, side in enumerate(sides):
                begun = time.perf_counter()
                side.api.post("/experiments", json=SPEC).raise_for_status()
                created[place].append(time.perf_counter() - begun)
        yield _line(kind, "create, with its look at the queue's length", created, small, large)
        for _ in range(rounds):
            for place, side in enumerate(sides):
                for step, took in _work(side.database):
                    steps.setdefault(step, [[], []])[place].append(took)
        for step, found in steps.items():
            yield _line(kind, step, found, small, large)
    yield Line(
        what=f"{kind}, bytes for each experiment",
        value=large.size / large.experiments,
        unit="bytes",
        budget=20_000,
        at_most=True,
        detail=f"{large.experiments:,} experiments of 10 epochs in {large.size / 1e9:.1f} GB, with every index",
    )


def _asked(question: Question, sides: tuple[Side, Side], rounds: int, draw: random.Random) -> list[list[float]]:
    """The seconds that each took, in turns, after one question that is not counted."""
    taken: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for side, seconds in zip(sides, taken, strict=True):
            path = question(side, draw)
            begun = time.perf_counter()
            side.api.get(path).raise_for_status()
            if turn > 0:
                seconds.append(time.perf_counter() - begun)
    return taken


def _work(database: Database) -> Iterator[tuple[str, float]]:
    """What a worker does, step by step, with the seconds that each took. All is given back at the end."""
    metrics = EpochMetrics(
        epoch=1, loss=1, accuracy=0.5, val_loss=1, val_accuracy=0.5, seconds=0, gradient_norms=(1, 1)
    )
    begun = time.perf_counter()

    def lap(step: str) -> tuple[str, float]:
        nonlocal begun
        begun, before = time.perf_counter(), begun
        return step, begun - before

    with database.read() as session:
        queue.has_work(session)
    yield lap("look for work")
    with database.read() as session:
        queue.has_expired(session)
    yield lap("look for expired leases")
    with database.write() as session:
        first = queue.claim(session, owner="scale", lease_seconds=60)
    yield lap("claim")
    if first is None:
        raise RuntimeError("nothing waited")
    with database.write() as session:
        others = queue.claim_alike(session, first, lease_seconds=60, most=MOST, share=2)
    yield lap("claim what is alike")
    taken = [first, *others]
    with database.read() as session:
        queue.owned(session, owner="scale")
    yield lap("look at what is owned")
    with database.write() as session:
        queue.heartbeat(session, owner="scale", experiment_ids=[one.experiment_id for one in taken], lease_seconds=60)
    yield lap("heartbeat")
    with database.write() as session:
        queue.release_expired(session, max_attempts=3)
    yield lap("take back expired leases")
    with database.write() as session:
        queue.record_epoch(session, first, metrics)
    yield lap("record an epoch")
    with database.write() as session:
        queue.fail(session, first, "training_diverged", "measured")
    yield lap("end")
    for one in others:
        with database.write() as session:
            queue.give_back(session, one)


def _line(kind: str, what: str, taken: list[list[float]], small: Filled, large: Filled) -> Line:
    one, other = (1000 * median(seconds) for seconds in taken)
    return Line(
        what=f"{kind}, {what}: {large.experiments:,} / {small.experiments:,}",
        value=other / one,
        unit="",
        budget=BUDGET,
        at_most=True,
        detail=f"{other:.2f} ms against {one:.2f} ms, median of {len(taken[0])}",
    )


@contextlib.contextmanager
def _side(filled: Filled) -> Iterator[Side]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    database = Database(filled.url)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(["-m", "benchmarks.server", str(port)], Path(folder), EPOCHD_DATABASE_URL=filled.url),
        httpx.Client(base_url=url, timeout=300, trust_env=False) as api,
        contextlib.closing(database),
    ):
        wait_ready(url)
        yield Side(filled=filled, api=api, database=database)


@contextlib.contextmanager
def _sqlite(folder: Path) -> Iterator[tuple[str, str]]:
    yield f"sqlite:///{folder / 'small.sqlite3'}", f"sqlite:///{folder / 'large.sqlite3'}"


@contextlib.contextmanager
def _postgresql(folder: Path) -> Iterator[tuple[str, str]]:
    """Two empty databases of a server of their own, which does not wait for the disk."""
    quick = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "'4GB'"}
    with postgres(folder, quick) as (url, _):
        with contextlib.closing(psycopg.connect(url, autocommit=True)) as connection:
            for name in ("small", "large"):
                connection.execute(f"CREATE DATABASE {name}")
        yield url.replace("/postgres?", "/small?"), url.replace("/postgres?", "/large?")
