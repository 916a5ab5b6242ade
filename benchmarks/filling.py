"""Fills a database with many experiments: a few are taken through the queue by the service's own code, and their rows
are written again and again under other ids. So the rows are what the service writes, whatever its tables are.
"""

import functools
import itertools
import random
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.orm import Session

from service.domain.events import Trained
from service.domain.experiment import EpochMetrics, HiddenLayer, Spec, Status
from service.domain.sweep import SweepSpec
from service.store import experiments, listing, models, queue, schema, sweeps
from service.store.queue import Claim, ModelFiles
from service.store.session import Database

__all__ = ["BATCH", "Filled", "fill"]

ACTIVATIONS = ("sigmoid", "relu", "tanh", "gelu", "selu")
EPOCHS = 10
OWNER = "filling"
YEAR = timedelta(days=365)
LEASE_SECONDS = 24 * 3600
MOST_QUEUED = 3_000
RUNNING = 8
ALIKE = 4
"""Different specs among those that wait, but for their seeds."""
RARE = 20
"""Experiments with a tag that only the first batches have."""

SWEEP = SweepSpec.model_validate(
    {"base": {"tags": ["nightly"]}, "grid": {"activation": ["sigmoid", "relu"], "depth": [1, 2, 3]}, "seeds": 5}
)
SINGLES = 20
BATCH = SWEEP.size + SINGLES
"""Experiments of which the others are copies: a sweep, and some that stand alone."""

TABLES = ("sweeps", "experiments", "experiment_tags", "epochs", "events")
SAMPLE = 1_000
SQLITE_PART = 200_000
"""Rows in a transaction."""
POSTGRESQL_PART = 1_000
"""Rows in a message."""

SECONDARY = """\
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = ANY(%s) AND indexname NOT LIKE 'pk\\_%%'"""

Row = tuple[object, ...]
Own = str | float | datetime | None
ENDED = (Status.SUCCEEDED, Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A database that is full, and what there is to ask it for."""

    url: str
    experiments: int
    size: int
    """Bytes, with every index."""
    ids: Sequence[str]
    """A random sample of the ended experiments."""
    sweeps: Sequence[str]
    """A random sample of the sweeps."""
    owned: Sequence[str]
    """Those that run."""


@dataclass(frozen=True, kw_only=True)
class _Template:
    """One experiment's rows, as the driver gives them, by table. The first column is its id in every table."""

    in_sweep: bool
    succeeded: bool
    tables: dict[str, list[Row]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Copy:
    """Who gets a template's rows next."""

    number: int
    template: _Template
    id: str
    sweep_id: str | None
    moment: datetime
    accuracy: float

    def own(self, table: str) -> dict[str, Own]:
        """What a row of the template does not say of this one."""
        own: dict[str, Own] = {"created_at": self.moment}
        if table == "sweeps":
            return own | {"id": self.sweep_id}
        if self.template.succeeded:
            own["test_accuracy"] = self.accuracy
        if table == "experiment_tags":
            return own | {"experiment_id": self.id}
        ended = self.moment + timedelta(minutes=1)
        return own | {"id": self.id, "sweep_id": self.sweep_id, "started_at": self.moment, "finished_at": ended}


def fill(url: str, count: int, *, seed: int = 0) -> Filled:
    """Fill an empty database with about `count` experiments over the last year, of 10 epochs each with their events.

    The share that waits is a tenth, and at most 3,000; 8 run. Afterwards the statistics are those that PostgreSQL's
    autovacuum would have made. On SQLite there are none, as in the service.
    """
    database = Database(url)
    try:
        schema.upgrade(database)
        waiting = min(MOST_QUEUED, count // 10)
        ended = count - waiting - RUNNING
        templates = _templates(database)
        begun = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - YEAR
        copies = functools.partial(_copies, templates, ended, begun=begun, seed=seed)
        _write(database, copies)
        sample = [one for one in copies() if one.number % max(1, ended // SAMPLE) == 0]
        with database.write() as session:
            models.set_alias(session, "champion", next(one.id for one in sample if one.template.succeeded))
            experiments.create_many(session, [_spec(number % ALIKE, number) for number in range(waiting + RUNNING)])
        with database.write() as session:
            owned = [_claim(session).experiment_id for _ in range(RUNNING)]
        size = _settle(database)
    finally:
        database.close()
    return Filled(
        url=url,
        experiments=count,
        size=size,
        ids=[one.id for one in sample],
        sweeps=[one.sweep_id for one in sample if one.sweep_id],
        owned=owned,
    )


def _spec(number: int, seed: int) -> Spec:
    tags = ["baseline"] if number % 4 == 0 else []
    activation = ACTIVATIONS[number % len(ACTIVATIONS)]
    return Spec.model_validate({"activation": activation, "depth": 1 + number % 4, "seed": seed, "tags": tags})


def _templates(database: Database) -> list[_Template]:
    """A sweep and some single experiments, taken to their ends, then read back and deleted."""
    with database.write() as session:
        sweep = sweeps.create(session, SWEEP)
        for number in range(SINGLES):
            experiments.create(session, _spec(number, number))
    for number in range(BATCH):
        with database.write() as session:
            _end(session, _claim(session), ENDED[number % len(ENDED)] if number >= SWEEP.size else Status.SUCCEEDED)
    with database.read() as session:
        in_sweep = {one.id for one in sweeps.members(session, sweep.id)}
        everything = listing.page(session, listing.Filter(), sort="created_at", cursor=None, limit=BATCH)
        templates = [
            _Template(
                in_sweep=one.id in in_sweep,
                succeeded=one.status is Status.SUCCEEDED,
                tables=_rows_of(session, one.id, sweep.id),
            )
            for one in everything.experiments
        ]
    with database.write() as session:
        sweeps.delete_finished(session, sweep.id)
        for one in everything.experiments:
            if one.id not in in_sweep:
                experiments.delete_finished(session, one.id)
    return templates


def _claim(session: Session) -> Claim:
    claimed = queue.claim(session, owner=OWNER, lease_seconds=LEASE_SECONDS)
    if claimed is None:
        raise RuntimeError("there was nothing to claim")
    return claimed


def _end(session: Session, claimed: Claim, status: Status) -> None:
    """All epochs, and an end."""
    depth = claimed.spec.depth
    for epoch in range(1, EPOCHS + 1):
        number = 1 / (epoch + depth / 7)
        layer = HiddenLayer(mean=number / 3, standard_deviation=number / 5, saturated=number / 9, dead=None)
        metrics = EpochMetrics(
            epoch=epoch,
            loss=number,
            accuracy=1 - number,
            val_loss=number * 1.1,
            val_accuracy=1 - number * 1.1,
            seconds=0.2 + number / 10,
            gradient_norms=tuple(number / (3 + layer) for layer in range(depth + 1)),
            gradient_ratio=0.3 + number,
            gradients="healthy",
            hidden=(layer,) * depth,
        )
        queue.record_epoch(session, claimed, metrics)
    if status is Status.FAILED:
        queue.fail(session, claimed, "training_diverged", "the loss of epoch 10 is no finite number")
        return
    if status is Status.CANCELLED:
        experiments.cancel(session, claimed.experiment_id)
    trained = Trained(
        experiment_id=claimed.experiment_id,
        test_loss=0.25,
        test_accuracy=0.9,
        evaluation_seconds=0.1,
        parameters=claimed.spec.parameters,
        weights_sha256="0" * 64,
        keras=b"keras",
        onnx=b"onnx",
    )
    queue.finish(session, claimed, trained, ModelFiles(keras_sha256="1" * 64, onnx_sha256="2" * 64))


def _rows_of(session: Session, experiment_id: str, sweep_id: str) -> dict[str, list[Row]]:
    wanted: dict[str, tuple[str, str]] = {
        "sweeps": ("id", sweep_id),
        "experiments": ("id", experiment_id),
        "experiment_tags": ("experiment_id", experiment_id),
        "epochs": ("experiment_id", experiment_id),
        "events": ("experiment_id", experiment_id),
    }
    connection = session.connection().connection.driver_connection
    found: dict[str, list[Row]] = {}
    for table, (column, value) in wanted.items():
        if isinstance(connection, psycopg.Connection):
            asked = sql.SQL("COPY (SELECT * FROM {} WHERE {} = {}) TO STDOUT").format(
                sql.Identifier(table), sql.Identifier(column), sql.Literal(value)
            )
            with connection.cursor().copy(asked) as copy:
                text = b"".join(map(bytes, copy)).decode()
            found[table] = [tuple(line.split("\t")) for line in text.splitlines()]
        else:
            assert isinstance(connection, sqlite3.Connection)
            found[table] = connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,)).fetchall()
    return found


def _copies(templates: Sequence[_Template], count: int, *, begun: datetime, seed: int) -> Iterator[_Copy]:
    """The same at every call: a million at once would take the memory that the database should have."""
    draw = random.Random(seed)
    sweep_id = ""
    for number in range(count):
        template = templates[number % BATCH]
        moment = begun + YEAR * (number / count)
        if number % BATCH == 0:
            sweep_id = _uuid7(moment, draw)
        yield _Copy(
            number=number,
            template=template,
            id=_uuid7(moment, draw),
            sweep_id=sweep_id if template.in_sweep else None,
            moment=moment,
            accuracy=round(draw.betavariate(20, 2), 4),  # a share of 10,000 images
        )


def _uuid7(moment: datetime, draw: random.Random) -> str:
    milliseconds = int(moment.timestamp() * 1000)
    return str(
        uuid.UUID(int=milliseconds << 80 | 7 << 76 | draw.getrandbits(12) << 64 | 2 << 62 | draw.getrandbits(62))
    )


def _rows(table: str, columns: Sequence[str], copies: Iterable[_Copy], cell: Callable[[Own], object]) -> Iterator[Row]:
    """A table's rows: the templates' with what is each copy's own, which `cell` writes as the driver wants it."""
    if table in {"epochs", "events"}:  # the many
        for copy in copies:
            for row in copy.template.tables[table]:
                yield (copy.id, *row[1:])
        return
    for copy in copies:
        if table == "sweeps" and copy.number % BATCH:
            continue
        own = copy.own(table)
        rows = copy.template.tables[table]
        if table == "experiment_tags" and copy.number < RARE:
            yield from (_with(row, columns, own | {"tag": "rare"}, cell) for row in rows[:1])
        yield from (_with(row, columns, own, cell) for row in rows)


def _with(row: Row, columns: Sequence[str], own: Mapping[str, Own], cell: Callable[[Own], object]) -> Row:
    return tuple(cell(own[name]) if name in own else value for name, value in zip(columns, row, strict=True))


def _columns(session: Session) -> dict[str, list[str]]:
    """The columns in the order of the table, to which migrations have added."""
    connection = session.connection()
    return {table: list(connection.exec_driver_sql(f"SELECT * FROM {table} WHERE 1 = 0").keys()) for table in TABLES}


def _write(database: Database, copies: Callable[[], Iterable[_Copy]]) -> None:
    """Every table in the order of its keys, without the checks of foreign keys and without waiting for the disk."""
    with database.read() as session:
        columns = _columns(session)
    if database.is_sqlite:
        with closing(sqlite3.connect(str(database.url.database), isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA cache_size = -200000")
            for table, names in columns.items():
                rows = _rows(table, names, copies(), _sqlite_cell)
                marks = ", ".join("?" * len(names))
                while part := list(itertools.islice(rows, SQLITE_PART)):
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", part)
                    connection.execute("COMMIT")
        return
    with _postgresql(database) as postgres:
        postgres.execute("SET session_replication_role = replica")
        postgres.execute("SET maintenance_work_mem = '512MB'")
        indexes = postgres.execute(SECONDARY, [list(columns)]).fetchall()
        for index, _ in indexes:  # made at the end, each by one sort
            postgres.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(index)))
        for table, names in columns.items():
            rows = _rows(table, names, copies(), _postgresql_cell)
            statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
            with postgres.cursor().copy(statement) as copy:
                while part := list(itertools.islice(rows, POSTGRESQL_PART)):
                    copy.write("".join("\t".join(map(str, row)) + "\n" for row in part))
        for _, definition in indexes:
            postgres.execute(definition)


def _settle(database: Database) -> int:
    """What autovacuum would have done by now. Returns the database's size in bytes."""
    if database.is_sqlite:
        path = Path(str(database.url.database))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size
    with _postgresql(database) as postgres:
        postgres.execute("VACUUM ANALYZE")
        found = postgres.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    size: int = found[0]
    return size


def _postgresql(database: Database) -> psycopg.Connection:
    url = database.url.set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def _sqlite_cell(value: Own) -> object:
    return value.replace(tzinfo=None).isoformat(" ", "microseconds") if isinstance(value, datetime) else value


def _postgresql_cell(value: Own) -> object:
    return r"\N" if value is None else value
