"""The database itself refuses a second end of an experiment.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

DONE = sa.text("type = 'done'")


def upgrade() -> None:
    op.create_index(
        "uq_events_done", "events", ["experiment_id"], unique=True, sqlite_where=DONE, postgresql_where=DONE
    )


def downgrade() -> None:
    op.drop_index("uq_events_done", "events")
