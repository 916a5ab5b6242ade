"""Experiments with their tags, epochs and events; aliases; idempotency keys.

Revision: 0001
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
NUMBER = sa.Float(53)


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("activation", sa.String(32), nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("dataset", sa.String(32), nullable=False),
        sa.Column("queue_rank", sa.Integer, nullable=False),
        sa.Column("sweep_id", sa.String(36)),
        sa.Column("retry_of", sa.String(36)),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("drains", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("lease_expires_at", MOMENT),
        sa.Column("last_event", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("checkpoint_epoch", sa.Integer),
        sa.Column("checkpoint_sha256", sa.String(64)),
        sa.Column("test_loss", NUMBER),
        sa.Column("test_accuracy", NUMBER),
        sa.Column("computation_seconds", NUMBER, nullable=False),
        sa.Column("parameters", sa.Integer),
        sa.Column("weights_sha256", sa.String(64)),
        sa.Column("keras_sha256", sa.String(64)),
        sa.Column("keras_bytes", sa.Integer),
        sa.Column("onnx_sha256", sa.String(64)),
        sa.Column("onnx_bytes", sa.Integer),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error_message", sa.String(1000)),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
    )
    _partial_index("ix_experiments_queue", ["queue_rank", "id"], "status = 'queued'")
    _partial_index("ix_experiments_leases", ["lease_expires_at"], "status IN ('running', 'cancelling')")
    _partial_index("ix_experiments_best", ["dataset", "test_accuracy", "id"], "test_accuracy IS NOT NULL")
    op.create_index("ix_experiments_test_accuracy", "experiments", ["test_accuracy", "id"])
    op.create_index("ix_experiments_created_at", "experiments", ["created_at", "id"])
    op.create_index("ix_experiments_status_created_at", "experiments", ["status", "created_at", "id"])
    op.create_index("ix_experiments_arm", "experiments", ["activation", "depth", "created_at", "id"])
    op.create_index("ix_experiments_sweep_id", "experiments", ["sweep_id", "created_at", "id"])
    op.create_index("ix_experiments_retry_of", "experiments", ["retry_of"])

    op.create_table(
        "experiment_tags",
        sa.Column("experiment_id", sa.String(36), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "tag", name="pk_experiment_tags"),
        _of_experiment("experiment_tags", "CASCADE"),
    )
    op.create_index("ix_experiment_tags_tag", "experiment_tags", ["tag", "experiment_id"])

    op.create_table(
        "epochs",
        sa.Column("experiment_id", sa.String(36), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("loss", NUMBER),
        sa.Column("accuracy", NUMBER),
        sa.Column("val_loss", NUMBER),
        sa.Column("val_accuracy", NUMBER),
        sa.Column("seconds", NUMBER, nullable=False),
        sa.Column("gradient_norms", JSON, nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "epoch", name="pk_epochs"),
        _of_experiment("epochs", "CASCADE"),
    )

    op.create_table(
        "events",
        sa.Column("experiment_id", sa.String(36), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "sequence", name="pk_events"),
        _of_experiment("events", "CASCADE"),
    )

    op.create_table(
        "aliases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("experiment_id", sa.String(36), nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_aliases"),
        _of_experiment("aliases", "RESTRICT"),
    )
    op.create_index("ix_aliases_experiment_id", "aliases", ["experiment_id"])

    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("answer", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    for table in ("idempotency_keys", "aliases", "events", "epochs", "experiment_tags", "experiments"):
        op.drop_table(table)


def _partial_index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "experiments", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _of_experiment(table: str, on_delete: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["experiment_id"], ["experiments.id"], name=f"fk_{table}_experiment_id", ondelete=on_delete
    )
