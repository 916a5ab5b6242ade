"""API keys, who did what, and what each key's training costs.

Revision: 0007
Follows: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_table(
        "audit_events",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("key_id", sa.String(16)),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("address", sa.String(64)),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(100)),
        sa.Column("request_id", sa.String(128)),
        sa.Column("details", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_target", "audit_events", ["target", "id"])
    op.create_index("ix_audit_events_key_id", "audit_events", ["key_id", "id"])
    op.create_table(
        "training_usage",
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("parameter_steps", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "day", name="pk_training_usage"),
    )
    op.add_column("experiments", sa.Column("created_by", sa.String(16)))
    op.add_column("experiments", sa.Column("trace_context", sa.String(64)))
    op.create_index(
        "ix_experiments_created_by", "experiments", ["created_by"], sqlite_where=QUEUED, postgresql_where=QUEUED
    )


def downgrade() -> None:
    op.drop_index("ix_experiments_created_by", "experiments")
    for column in ("trace_context", "created_by"):
        op.drop_column("experiments", column)
    for table in ("training_usage", "audit_events", "api_keys"):
        op.drop_table(table)
