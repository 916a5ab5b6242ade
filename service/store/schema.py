"""The schema's version: brings a database up to date by the migrations, and says when it is not."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.errors import SchemaOutOfDate
from service.store.session import Database

__all__ = ["current", "downgrade", "head", "initialise", "require_current", "upgrade"]

# Any number will do, as long as nobody else takes it for an advisory lock in the same database.
UPGRADE_LOCK = 0x65706F636864


def _config() -> Config:
    package = Path(__file__).parents[1]
    shipped = package / "migrations"  # in an installed wheel
    folder = shipped if shipped.is_dir() else package.parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def head() -> str:
    """The revision that this version of epochd needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - the folder is ours
    return revision


def current(database: Database) -> str | None:
    """The database's revision, or None for an empty database."""
    with database.read() as session:
        connection = session.connection()
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up. Safe to call from many processes at once: one does it, the others wait and find it done.

    Raises:
        SchemaOutOfDate: the database is newer than this version.
    """
    _require_known(current(database))
    with database.connection() as connection:
        _lock(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to a revision, or to `base`, which drops everything."""
    with database.connection() as connection:
        _lock(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def initialise(database: Database) -> None:
    """Make the tables in an empty database and bring a SQLite file up to date.

    A PostgreSQL database that holds an older schema is left to its operator, who may have a plan for it.

    Raises:
        SchemaOutOfDate: it is PostgreSQL with another revision than this version needs.
    """
    found = current(database)
    if found == head():
        return
    if found is None or database.is_sqlite:
        upgrade(database)
    require_current(database)


def require_current(database: Database) -> None:
    """Raise SchemaOutOfDate unless the database has the revision that this version needs."""
    found = current(database)
    _require_known(found)
    if found != head():
        raise SchemaOutOfDate(
            f"the database is at revision {found or 'none'}, this version needs {head()}: run `epochd db upgrade`"
        )


def _require_known(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaOutOfDate(
            f"the database is at revision {revision}, which this version does not know: a newer epochd made it, "
            "so a newer epochd is needed"
        )


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite: BEGIN IMMEDIATE holds the only write lock already
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
