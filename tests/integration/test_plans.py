"""Every statement of the store finds its rows by an index, on SQLite and PostgreSQL with many rows.

The statements are those that were sent, with their values. What is asked of them is the database's own plan.
"""

import importlib
import inspect
import pkgutil
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.orm import Session

from benchmarks.filling import Filled, fill
from service import store
from service.domain.access import Actor, Scope
from service.domain.events import Trained
from service.domain.experiment import EpochMetrics, Spec, Status
from service.domain.sweep import SweepSpec
from service.store import (
    calls,
    counts,
    experiments,
    idempotency,
    keys,
    listing,
    models,
    queue,
    quotas,
    retention,
    sweeps,
    trail,
)
from service.store import workers as present
from service.store.blobs import Blobs
from service.store.listing import Filter, Sort
from service.store.queue import ModelFiles
from service.store.session import Database
from service.store.tables import EventRow, ExperimentRow

pytestmark = pytest.mark.slow

EXPERIMENTS = 10_000
BIG = ("experiments", "epochs", "events", "experiment_tags")
SMALL_PART = 2_000
"""Rows that may be sorted or counted: less than a status, an arm or a tag has here, more than a sweep or what runs."""
PRUNED_AGE = timedelta(days=364)
BY_DESIGN = {"audit"}
"""Modules that read every row, because that is what they are for."""

SPEC = Spec(activation="relu", depth=1, tags=["nightly"], priority=1000)
GRID = SweepSpec.model_validate({"base": {"activation": "relu", "depth": 1, "priority": 1000}, "seeds": 4})
EPOCH = EpochMetrics(epoch=1, loss=1, accuracy=0.5, val_loss=1, val_accuracy=0.5, seconds=1, gradient_norms=(1, 1))
TRAINED = Trained(
    experiment_id="unused", test_loss=0.5, test_accuracy=0.75, evaluation_seconds=0.5, parameters=12_730,
    weights_sha256="a" * 64, keras=b"keras", onnx=b"onnx",
)  # fmt: skip
FILES = ModelFiles(keras_sha256="b" * 64, onnx_sha256="c" * 64)


@dataclass(frozen=True)
class Sent:
    """A statement as the driver got it."""

    statement: str
    parameters: Any


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A database with many experiments, filled once. Its sample has none that a test prunes."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("plans")
        yield _young(fill(f"sqlite:///{folder / 'epochd.sqlite3'}", EXPERIMENTS))
        shutil.rmtree(folder)
        return
    maintenance = request.getfixturevalue("postgres")
    with closing(psycopg.connect(maintenance, autocommit=True)) as connection:
        connection.execute("CREATE DATABASE plans")
        yield _young(fill(maintenance.replace("/postgres?", "/plans?"), EXPERIMENTS))
        connection.execute("DROP DATABASE plans WITH (FORCE)")


def _young(filled: Filled) -> Filled:
    limit = (datetime.now(UTC) - PRUNED_AGE + timedelta(hours=1)).timestamp()
    return replace(filled, ids=[one for one in filled.ids if uuid.UUID(one).int >> 80 > limit * 1000])  # UUIDv7


@pytest.fixture(scope="module")
def big(filled: Filled) -> Iterator[Database]:
    with closing(Database(filled.url)) as database:
        yield database


@contextmanager
def sent(database: Database) -> Iterator[list[Sent]]:
    """What is sent to the database while the block runs, each statement once."""
    seen: dict[str, Sent] = {}

    def note(
        _connection: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool
    ) -> None:
        if re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)\b", statement):
            seen.setdefault(statement, Sent(statement, parameters[0] if many else parameters))

    found: list[Sent] = []
    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
        found += seen.values()


def faults(database: Database, statements: list[Sent]) -> list[str]:
    """What is wrong with the plans of these statements: for each one, what it does to a whole table."""
    with database.read() as session:
        plan = _of_sqlite if database.is_sqlite else _of_postgresql
        return [f"{fault}: {one.statement}" for one in statements for fault in plan(session.connection(), one)]


def _plan(connection: Connection, one: Sent) -> Any:
    """What the database would do: a list of SQLite's steps, or PostgreSQL's tree."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        return [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one.statement}", one.parameters)]
    cursor = psycopg.ClientCursor(driver)
    cursor.execute(f"EXPLAIN (FORMAT JSON) {one.statement}", one.parameters)
    row = cursor.fetchone()
    assert row is not None
    return row[0][0]["Plan"]


def _of_sqlite(connection: Connection, one: Sent) -> Iterator[str]:
    plan = _plan(connection, one)
    walks = "LIMIT" in one.statement and not any("TEMP B-TREE FOR ORDER BY" in step for step in plan)
    for step in plan:
        # SQLite names a table as the statement does: `experiments`, or `experiments AS other`.
        if step.startswith("SCAN") and step.split()[1].startswith(BIG) and not (walks and "USING" in step):
            yield step
        running = re.search(r"lease_expires_at <|owner = ", one.statement)
        if "TEMP B-TREE FOR ORDER BY" in step and not running and not all(map(_few, plan)):
            yield f"{step} of {plan}"


def _few(step: str) -> bool:
    """Whether a step reads what belongs to an experiment or a sweep, or what waits or runs."""
    few = r"\((sweep_id|id|experiment_id|name)=\?|ix_experiments_(queue|stack|leases)|TEMP B-TREE|^LIST|^SCALAR"
    return re.search(few, step) is not None or not any(table in step for table in BIG)


def _of_postgresql(connection: Connection, one: Sent) -> Iterator[str]:
    yield from _of_node(_plan(connection, one), limited=False)


def _of_node(node: dict[str, Any], *, limited: bool) -> Iterator[str]:
    kind, many = node["Node Type"], node["Plan Rows"] > SMALL_PART
    if kind == "Seq Scan" and node["Relation Name"] in BIG:
        yield f"Seq Scan of {node['Relation Name']}"
    if node.get("Relation Name") in BIG and many and not limited:
        yield f"{kind} of {node['Plan Rows']} {node['Relation Name']}"
    # A sort and a hash take all of their rows before they give the first. An incremental sort does not.
    limited = kind == "Limit" or (limited and kind not in {"Sort", "Hash", "HashAggregate", "Bitmap Heap Scan"})
    for child in node.get("Plans", []):
        yield from _of_node(child, limited=limited)


def listings(filled: Filled) -> dict[str, Filter]:
    return {
        "everything": Filter(),
        "a status": Filter(status=[Status.SUCCEEDED]),
        "what failed": Filter(status=[Status.FAILED]),
        "two statuses": Filter(status=[Status.FAILED, Status.CANCELLED]),
        "what waits or runs": Filter(status=[Status.QUEUED, Status.RUNNING, Status.CANCELLING]),
        "an activation": Filter(activation=["relu"]),
        "an activation nobody took": Filter(activation=["sparsemax"]),
        "a depth": Filter(depth=[2]),
        "an arm": Filter(activation=["relu"], depth=[2]),
        "a dataset": Filter(dataset=["mnist"]),
        "a dataset nobody took": Filter(dataset=["fashion_mnist"]),
        "a sweep": Filter(sweep_id=filled.sweeps[0]),
        "a common tag": Filter(tag=["nightly"]),
        "a rare tag": Filter(tag=["rare"]),
        "two tags": Filter(tag=["nightly", "rare"]),
    }


@pytest.mark.parametrize("sort", get_args(Sort))
def test_every_list_walks_an_index_in_its_order(big: Database, filled: Filled, sort: Sort) -> None:
    with big.read() as session:
        inside = [experiments.get(session, one) for one in filled.ids]
    places = [None, *(listing.cursor_after(sort, one) for one in (inside[len(inside) // 2], next(
        one for one in inside if one.result is None)))]  # fmt: skip
    wrong = {}
    for (name, wanted), cursor in product(listings(filled).items(), places):
        with sent(big) as statements, big.read() as session:
            listing.page(session, wanted, sort=sort, cursor=cursor, limit=50)
        wrong[name] = faults(big, statements)
    assert {name: found for name, found in wrong.items() if found} == {}


def clients(session: Session, filled: Filled) -> Iterator[Callable[..., object]]:
    """Call what the API calls, and yield each function that was called."""
    one, sweep_id = filled.ids[5], filled.sweeps[0]
    listing.page(session, Filter(), sort="created_at", cursor=None, limit=5)
    yield listing.page
    experiments.get(session, one)
    yield experiments.get
    experiments.metrics(session, one)
    yield experiments.metrics
    experiments.events_after(session, one, 3)
    yield experiments.events_after
    experiments.create(session, SPEC, max_queued=10_000)
    yield from (experiments.create, experiments.create_many, experiments.require_room)
    made = experiments.retry(session, one, max_queued=10_000)
    yield experiments.retry
    experiments.cancel(session, made.id)
    yield experiments.cancel
    experiments.delete_finished(session, made.id)
    yield experiments.delete_finished
    idempotency.once(session, "key", fingerprint="a", keep_hours=24, act=dict)
    yield idempotency.once
    for call in (sweeps.get, sweeps.members, sweeps.epochs):
        call(session, sweep_id)
        yield call
    sweeps.page(session, cursor=sweep_id, limit=20)
    yield sweeps.page
    created = sweeps.create(session, GRID, max_queued=10_000)
    yield sweeps.create
    sweeps.cancel(session, created.id)
    yield sweeps.cancel
    sweeps.delete_finished(session, created.id)
    yield sweeps.delete_finished
    models.set_alias(session, "mine", next(one.experiment_id for one in models.aliases(session)))
    yield from (models.set_alias, models.aliases)
    for name in ("best", "mine"):
        models.resolve_alias(session, name)
        models.find_alias(session, name)
    yield from (models.resolve_alias, models.find_alias)
    models.resolve_experiment(session, models.find_alias(session, "mine").experiment_id)
    yield models.resolve_experiment
    models.best(session)
    yield models.best
    models.delete_alias(session, "mine")
    yield models.delete_alias


def workers(session: Session, filled: Filled) -> Iterator[Callable[..., object]]:
    """Call what a worker calls, and yield each function that was called."""
    worker = {"host": "here", "process": 1, "engine": "local", "slots": 1, "draining": False, "version": "0"}
    present.beat(session, "one", lease_seconds=60, trouble=None, **worker)
    yield present.beat
    looks = (queue.has_work, queue.has_expired, present.every, calls.call_workers, counts.oldest_queued)
    for look in (*looks, counts.unfinished):
        look(session)
        yield look
    experiments.last_events(session, filled.ids[:50])
    yield experiments.last_events
    for _ in range(6):
        experiments.create(session, SPEC)
    first, second, third, fourth = (queue.claim(session, owner="one", lease_seconds=60) for _ in range(4))
    assert first is not None
    assert second is not None
    assert third is not None
    assert fourth is not None
    yield queue.claim
    assert queue.claim_alike(session, first, lease_seconds=60, most=4, share=1)
    yield queue.claim_alike
    queue.heartbeat(session, owner="one", experiment_ids=[first.experiment_id], lease_seconds=60)
    yield queue.heartbeat
    queue.owned(session, owner="one")
    yield queue.owned
    queue.record_epoch(session, first, EPOCH)
    yield queue.record_epoch
    queue.record_checkpoint(session, first, epoch=1, sha256="a" * 64)
    yield queue.record_checkpoint
    queue.finish(session, first, TRAINED, FILES)
    yield queue.finish
    queue.fail(session, second, "training_diverged", "the loss is no finite number")
    yield queue.fail
    queue.requeue(session, third, reason="trainer_died", max_attempts=3)
    yield queue.requeue
    queue.give_back(session, fourth)
    yield queue.give_back
    queue.release_expired(session, max_attempts=3)
    yield queue.release_expired
    present.leave(session, "one")
    yield present.leave


def keyholders(session: Session, filled: Filled) -> Iterator[Callable[..., object]]:
    """Call what is done about who asks, and yield each function that was called."""
    made, _ = keys.create(session, name="plans", scopes=[Scope.WRITE], expires_at=None)
    yield keys.create
    for look in (keys.every, keys.kept, keys.any_exist):
        look(session)
        yield look
    keys.touch(session, [made.id])
    keys.revoke(session, made.id)
    yield from (keys.touch, keys.find, keys.revoke)
    quotas.require_room(session, made.id, 1, most=10)
    quotas.charge(session, made.id, 5, quota=10)
    yield from (quotas.require_room, quotas.charge)
    trail.record(session, Actor(name="who", key_id=made.id, address=None, request_id=None), "key.create", made.id)
    trail.page(session, target=filled.ids[5], key_id=made.id, limit=5)
    yield from (trail.record, trail.page)


@pytest.mark.parametrize("part", [clients, workers, keyholders])
def test_what_clients_and_workers_do_finds_its_rows_by_an_index(
    big: Database, filled: Filled, part: Callable[[Session, Filled], Iterator[object]]
) -> None:
    with sent(big) as statements, big.write() as session:
        called = list(part(session, filled))
        session.flush()
        session.rollback()
    assert len(statements) > len(called) / 2
    assert faults(big, statements) == []


def test_nothing_of_the_store_is_left_out(big: Database, filled: Filled) -> None:
    called = set()
    for part in (clients, workers, keyholders):
        with big.write() as session:
            called |= {f"{one.__module__}.{one.__qualname__}" for one in part(session, filled)}
            session.rollback()
    public = set()
    for found in pkgutil.iter_modules(store.__path__):
        module = importlib.import_module(f"{store.__name__}.{found.name}")
        if found.name in BY_DESIGN | {"session", "transitions"}:  # what others are made of
            continue
        for name in module.__all__:
            one = getattr(module, name)
            if inspect.isfunction(one) and "session" in inspect.signature(one).parameters:
                public.add(f"{one.__module__}.{one.__qualname__}")
    assert public - called == {"service.store.counts.ended"}  # which has a test of its own


def test_counting_what_has_ended_reads_an_index_and_not_the_rows(big: Database) -> None:
    with sent(big) as statements, big.read() as session:
        found = counts.ended(session)
    assert sum(found.values()) > SMALL_PART
    with big.read() as session:
        if not big.is_sqlite:  # or the plan depends on how much was changed since autovacuum last came
            session.execute(text("SET LOCAL enable_seqscan = off"))
            session.execute(text("SET LOCAL enable_bitmapscan = off"))
        for one in statements:
            plan = str(_plan(session.connection(), one))
            assert ("COVERING INDEX" if big.is_sqlite else "'Index Only Scan'") in plan


def test_pruning_finds_its_rows_by_an_index(big: Database, filled: Filled, tmp_path: Path) -> None:
    policy = retention.Policy(older_than=PRUNED_AGE, keep_models=True)
    with sent(big) as statements:
        list(retention.prune_events(big, policy, pause=lambda _: None))
        list(retention.prune(big, Blobs(tmp_path.as_uri()), policy, pause=lambda _: None))
    assert len(statements) > 5
    assert faults(big, statements) == []


def test_a_statement_is_planned_with_its_values_however_often_it_is_sent(big: Database) -> None:
    if big.is_sqlite:  # it looks at the values whenever they change
        return
    for _ in range(20):
        with big.read() as session:
            queue.has_expired(session)
    with big.read() as session:
        # Connections are taken again last in, first out: this is the one that was used above.
        assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0


def test_a_statement_without_an_index_is_noticed(big: Database) -> None:
    careless = [
        select(ExperimentRow.id).where(ExperimentRow.parameters == 5),
        select(ExperimentRow.id).order_by(ExperimentRow.finished_at.desc()).limit(5),
        select(ExperimentRow.id)
        .where(ExperimentRow.status == "succeeded")
        .order_by(ExperimentRow.finished_at)
        .limit(5),
        select(func.count()).select_from(EventRow),
        select(EventRow.sequence).where(EventRow.type == "epoch").limit(5),
    ]
    for statement in careless:
        with sent(big) as statements, big.read() as session:
            session.execute(statement).all()
        assert faults(big, statements), text(str(statement))
