"""The tables, and the few SQL functions that SQLite and PostgreSQL spell differently."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

__all__ = [
    "AliasRow",
    "AuditRow",
    "Base",
    "EpochRow",
    "EventRow",
    "ExperimentRow",
    "IdempotencyRow",
    "KeyRow",
    "SweepRow",
    "TagRow",
    "UsageRow",
    "WorkerRow",
    "database_now",
]


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond. SQLite has no zone, so it is dropped on the way in and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone; SQLite gets it in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs its time zone")
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give every moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_now(GenericFunction[datetime]):  # noqa: N801 - named as the SQL function it stands for
    """The database's own clock, plus `seconds`. Workers' clocks may disagree; leases must not."""

    type = UtcDateTime()
    inherit_cache = True
    name = "database_now"

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: SQLCompiler, **kw: Any) -> str:  # noqa: ANN401
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"


@compiles(database_now, "postgresql")
def _postgresql_now(element: database_now, compiler: SQLCompiler, **kw: Any) -> str:  # noqa: ANN401
    seconds = compiler.process(element.clauses, **kw)
    return f"(clock_timestamp() + make_interval(secs => CAST({seconds} AS double precision)))"


Json = JSON().with_variant(JSONB(), "postgresql")


class Base(DeclarativeBase):
    """The declarative base. Names of constraints are fixed, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ExperimentRow(Base):
    """An experiment. The row is the job: there is no second queue."""

    __tablename__ = "experiments"
    __table_args__ = (
        # The status stands in the index, too: SQLite would not take its order for an answer otherwise, and sort.
        Index("ix_experiments_queue", "status", "queue_rank", "id",
              sqlite_where=text("status = 'queued'"), postgresql_where=text("status = 'queued'")),
        Index("ix_experiments_stack", "status", "stack_key", "queue_rank", "id",
              sqlite_where=text("status = 'queued'"), postgresql_where=text("status = 'queued'")),
        Index("ix_experiments_leases", "lease_expires_at",
              sqlite_where=text("status IN ('running', 'cancelling')"),
              postgresql_where=text("status IN ('running', 'cancelling')")),
        # Every filter of a list has an index in each order: so no page is sorted from all that matches.
        Index("ix_experiments_created_at", "created_at", "id"),
        Index("ix_experiments_test_accuracy", "test_accuracy", "id"),
        Index("ix_experiments_status_created_at", "status", "created_at", "id"),
        Index("ix_experiments_activation", "activation", "created_at", "id"),
        Index("ix_experiments_activation_test_accuracy", "activation", "test_accuracy", "id"),
        Index("ix_experiments_depth", "depth", "created_at", "id"),
        Index("ix_experiments_depth_test_accuracy", "depth", "test_accuracy", "id"),
        Index("ix_experiments_arm", "activation", "depth", "created_at", "id"),
        Index("ix_experiments_arm_test_accuracy", "activation", "depth", "test_accuracy", "id"),
        Index("ix_experiments_dataset", "dataset", "created_at", "id"),
        Index("ix_experiments_best", "dataset", "test_accuracy", "id"),
        Index("ix_experiments_sweep_id", "sweep_id", "created_at", "id"),
        Index("ix_experiments_sweep_test_accuracy", "sweep_id", "test_accuracy", "id",
              sqlite_where=text("sweep_id IS NOT NULL"), postgresql_where=text("sweep_id IS NOT NULL")),
        # A sweep's progress is counted from this index alone.
        Index("ix_experiments_sweep_progress", "sweep_id", "status", "finished_at",
              sqlite_where=text("sweep_id IS NOT NULL"), postgresql_where=text("sweep_id IS NOT NULL")),
        Index("ix_experiments_retry_of", "retry_of"),
        # How much each key has waiting.
        Index("ix_experiments_created_by", "created_by",
              sqlite_where=text("status = 'queued'"), postgresql_where=text("status = 'queued'")),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    spec: Mapped[dict[str, Any]] = mapped_column(Json)
    activation: Mapped[str] = mapped_column(String(32))
    depth: Mapped[int] = mapped_column(Integer)
    dataset: Mapped[str] = mapped_column(String(32))
    queue_rank: Mapped[int] = mapped_column(Integer)
    """Minus the priority: with the time-ordered id behind it, one ascending index is the queue's order."""
    stack_key: Mapped[str | None] = mapped_column(String(64))
    """Equal where specs can be trained as one; null where they are trained alone."""
    sweep_id: Mapped[str | None] = mapped_column(String(36))
    retry_of: Mapped[str | None] = mapped_column(String(36))
    created_by: Mapped[str | None] = mapped_column(String(16))
    """The API key that queued it; null where no key was asked for."""
    trace_context: Mapped[str | None] = mapped_column(String(64))
    """`traceparent` of the request that queued it (https://www.w3.org/TR/trace-context/)."""

    attempt: Mapped[int] = mapped_column(Integer, default=0)
    drains: Mapped[int] = mapped_column(Integer, default=0)
    owner: Mapped[str | None] = mapped_column(String(64))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_event: Mapped[int] = mapped_column(Integer, default=0)
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    checkpoint_epoch: Mapped[int | None] = mapped_column(Integer)
    checkpoint_sha256: Mapped[str | None] = mapped_column(String(64))

    test_loss: Mapped[float | None] = mapped_column(Float(53))
    test_accuracy: Mapped[float | None] = mapped_column(Float(53))
    computation_seconds: Mapped[float] = mapped_column(Float(53), default=0.0)
    parameters: Mapped[int | None] = mapped_column(Integer)
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    keras_sha256: Mapped[str | None] = mapped_column(String(64))
    keras_bytes: Mapped[int | None] = mapped_column(Integer)
    onnx_sha256: Mapped[str | None] = mapped_column(String(64))
    onnx_bytes: Mapped[int | None] = mapped_column(Integer)
    error_code: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(String(1000))

    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TagRow(Base):
    """One tag of one experiment, to find it by. What experiments are sorted by stands here again: so an index has a
    tag's experiments in every order, and a common tag is as fast as a rare one.
    """

    __tablename__ = "experiment_tags"
    __table_args__ = (
        Index("ix_experiment_tags_created_at", "tag", "created_at", "experiment_id"),
        Index("ix_experiment_tags_test_accuracy", "tag", "test_accuracy", "experiment_id"),
    )

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    test_accuracy: Mapped[float | None] = mapped_column(Float(53))


class EpochRow(Base):
    """The metrics of one epoch."""

    __tablename__ = "epochs"

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    loss: Mapped[float | None] = mapped_column(Float(53))
    accuracy: Mapped[float | None] = mapped_column(Float(53))
    val_loss: Mapped[float | None] = mapped_column(Float(53))
    val_accuracy: Mapped[float | None] = mapped_column(Float(53))
    seconds: Mapped[float] = mapped_column(Float(53))
    gradient_norms: Mapped[list[float | None]] = mapped_column(Json)
    gradient_ratio: Mapped[float | None] = mapped_column(Float(53))
    gradients: Mapped[str | None] = mapped_column(String(16))
    hidden: Mapped[list[dict[str, float | None]]] = mapped_column(Json, server_default="[]")


class EventRow(Base):
    """One event of one experiment's stream. `sequence` has no gaps: it is drawn under the experiment's row lock."""

    __tablename__ = "events"
    __table_args__ = (
        # Whatever a fault in the code might try, an experiment ends once.
        Index("uq_events_done", "experiment_id", unique=True,
              sqlite_where=text("type = 'done'"), postgresql_where=text("type = 'done'")),
    )  # fmt: skip

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AliasRow(Base):
    """A name that a user gave to a model, and may move."""

    __tablename__ = "aliases"
    __table_args__ = (Index("ix_aliases_experiment_id", "experiment_id"),)

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="RESTRICT"))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class IdempotencyRow(Base):
    """The answer that was given to a request with an `Idempotency-Key`."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    answer: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SweepRow(Base):
    """What was asked of a sweep. Its experiments name it; how far they are is counted, and stored nowhere."""

    __tablename__ = "sweeps"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]] = mapped_column(Json)
    size: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WorkerRow(Base):
    """A worker, as it last told of itself."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    process: Mapped[int] = mapped_column(Integer)
    engine: Mapped[str] = mapped_column(String(16))
    slots: Mapped[int] = mapped_column(Integer)
    version: Mapped[str] = mapped_column(String(32))
    draining: Mapped[bool] = mapped_column(Boolean)
    trouble: Mapped[str | None] = mapped_column(String(1000))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KeyRow(Base):
    """An API key. Its secret is stored nowhere: only the SHA-256 of it, which suffices for 256 random bits."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AuditRow(Base):
    """Who did what, and when. Names nothing by a foreign key: it outlives what it tells of."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_target", "target", "id"),
        Index("ix_audit_events_key_id", "key_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    key_id: Mapped[str | None] = mapped_column(String(16))
    actor: Mapped[str] = mapped_column(String(100))
    address: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str | None] = mapped_column(String(100))
    request_id: Mapped[str | None] = mapped_column(String(128))
    details: Mapped[dict[str, Any]] = mapped_column(Json)


class UsageRow(Base):
    """What a key's training has cost on a day (UTC), by the estimates with which it was queued."""

    __tablename__ = "training_usage"

    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    parameter_steps: Mapped[int] = mapped_column(BigInteger)
