"""Run by Alembic. The connection comes from `service.store.schema`, which also holds the lock."""

from alembic import context

from service.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=False,  # the caller's transaction is the one; SQLite's DDL is transactional too
)
context.run_migrations()
