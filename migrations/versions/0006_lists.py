"""Indexes that have experiments in the order of every list, also those of a tag, and the queue in its own.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

NEW = {
    "ix_experiments_activation": ["activation", "created_at", "id"],
    "ix_experiments_activation_test_accuracy": ["activation", "test_accuracy", "id"],
    "ix_experiments_depth": ["depth", "created_at", "id"],
    "ix_experiments_depth_test_accuracy": ["depth", "test_accuracy", "id"],
    "ix_experiments_arm_test_accuracy": ["activation", "depth", "test_accuracy", "id"],
    "ix_experiments_dataset": ["dataset", "created_at", "id"],
}
QUEUE = ["queue_rank", "id"]
STACK = ["stack_key", "queue_rank", "id"]
BEST = ["dataset", "test_accuracy", "id"]
QUEUED = "status = 'queued'"


def upgrade() -> None:
    for name, columns in NEW.items():
        op.create_index(name, "experiments", columns)
    _index("ix_experiments_sweep_test_accuracy", ["sweep_id", "test_accuracy", "id"], "sweep_id IS NOT NULL")
    for name in ("ix_experiments_queue", "ix_experiments_stack", "ix_experiments_best"):
        op.drop_index(name, "experiments")
    _index("ix_experiments_queue", ["status", *QUEUE], QUEUED)
    _index("ix_experiments_stack", ["status", *STACK], QUEUED)
    op.create_index("ix_experiments_best", "experiments", BEST)

    op.drop_index("ix_experiment_tags_tag", "experiment_tags")
    op.add_column("experiment_tags", sa.Column("created_at", sa.DateTime(timezone=True)))
    op.add_column("experiment_tags", sa.Column("test_accuracy", sa.Float(53)))
    op.execute(
        "UPDATE experiment_tags SET "
        "created_at = (SELECT created_at FROM experiments WHERE id = experiment_id), "
        "test_accuracy = (SELECT test_accuracy FROM experiments WHERE id = experiment_id)"
    )
    with op.batch_alter_table("experiment_tags") as table:
        table.alter_column("created_at", existing_type=sa.DateTime(timezone=True), nullable=False)
    op.create_index("ix_experiment_tags_created_at", "experiment_tags", ["tag", "created_at", "experiment_id"])
    op.create_index("ix_experiment_tags_test_accuracy", "experiment_tags", ["tag", "test_accuracy", "experiment_id"])


def downgrade() -> None:
    op.drop_index("ix_experiment_tags_test_accuracy", "experiment_tags")
    op.drop_index("ix_experiment_tags_created_at", "experiment_tags")
    for column in ("test_accuracy", "created_at"):
        op.drop_column("experiment_tags", column)
    op.create_index("ix_experiment_tags_tag", "experiment_tags", ["tag", "experiment_id"])

    changed = ("ix_experiments_queue", "ix_experiments_stack", "ix_experiments_best")
    for name in (*NEW, "ix_experiments_sweep_test_accuracy", *changed):
        op.drop_index(name, "experiments")
    _index("ix_experiments_queue", QUEUE, QUEUED)
    _index("ix_experiments_stack", STACK, QUEUED)
    _index("ix_experiments_best", BEST, "test_accuracy IS NOT NULL")


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "experiments", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
