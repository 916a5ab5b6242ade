"""Sweeps, and the index from which their progress is counted.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

IN_A_SWEEP = sa.text("sweep_id IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(200)),
        sa.Column("spec", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
    )
    op.create_index(
        "ix_experiments_sweep_progress",
        "experiments",
        ["sweep_id", "status", "finished_at"],
        sqlite_where=IN_A_SWEEP,
        postgresql_where=IN_A_SWEEP,
    )


def downgrade() -> None:
    op.drop_index("ix_experiments_sweep_progress", "experiments")
    op.drop_table("sweeps")
