"""What can be trained as one, and what is seen of gradients and hidden layers.

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    op.add_column("experiments", sa.Column("stack_key", sa.String(64)))
    op.create_index(
        "ix_experiments_stack",
        "experiments",
        ["stack_key", "queue_rank", "id"],
        sqlite_where=QUEUED,
        postgresql_where=QUEUED,
    )
    op.add_column("epochs", sa.Column("gradient_ratio", sa.Float(53)))
    op.add_column("epochs", sa.Column("gradients", sa.String(16)))
    op.add_column("epochs", sa.Column("hidden", JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    for column in ("hidden", "gradients", "gradient_ratio"):
        op.drop_column("epochs", column)
    op.drop_index("ix_experiments_stack", "experiments")
    op.drop_column("experiments", "stack_key")
