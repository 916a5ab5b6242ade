"""The schema's version: brings a database up to date by the migrations, and says when it is not.

A revision is a number, and may say since which revision's code it can be used: `0009_since_0007` is 0009, and code of
0007 or 0008 works on it too. That is how a migration that only adds (expand) lets processes of the version before go
on, which do not know it: they read its name in the database. One that takes away (contract) has a later `since`.
"""

import re
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.errors import SchemaOutOfDate
from service.store.session import Database

__all__ = [
    "current",
    "downgrade",
    "head",
    "initialise",
    "require_current",
    "require_head",
    "require_known",
    "upgrade",
    "upgrade_within",
]

# Any number will do, as long as nobody else takes it for an advisory lock in the same database.
UPGRADE_LOCK = 0x65706F636864
LOCK_SECONDS = 5
"""How long a migration waits for a table: everybody else waits behind it, so it gives up and is tried again."""

REVISION = re.compile(r"(\d{4})(?:_since_(\d{4}))?")


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
        return MigrationContext.configure(session.connection()).get_current_revision()


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up. Safe to call from many processes at once: one does it, the others wait and find it done. A newer
    schema that this version can use is left as it is.

    Raises:
        SchemaOutOfDate: the database is newer than this version can use.
        Unavailable: somebody else holds a table that is to be changed.
    """
    if _is_newer(current(database)):
        return
    with database.connection() as connection:
        upgrade_within(connection, revision)


def upgrade_within(connection: Connection, revision: str) -> None:
    """The same in a transaction that is the caller's."""
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
    """Raise SchemaOutOfDate unless the database has the revision that this version needs, or a newer one that says it
    can be used by this version.
    """
    found = current(database)
    if not _is_newer(found):
        _require(found)


def require_head(connection: Connection) -> None:
    """Raise SchemaOutOfDate unless the database has the very revision of this version: all that it holds is known."""
    found = MigrationContext.configure(connection).get_current_revision()
    require_known(found)
    _require(found)


def require_known(revision: str | None) -> None:
    """Raise SchemaOutOfDate for a revision that only a newer version can have made."""
    if revision is not None and revision not in _known():
        raise SchemaOutOfDate(
            f"the database is at revision {revision}, which this version does not know: a newer epochd made it, "
            "so a newer epochd is needed"
        )


def _require(found: str | None) -> None:
    if found != head():
        raise SchemaOutOfDate(
            f"the database is at revision {found or 'none'}, this version needs {head()}: run `epochd db upgrade`"
        )


def _is_newer(revision: str | None) -> bool:
    """Whether a newer epochd made it, in a way that leaves it to this version too.

    Raises:
        SchemaOutOfDate: it is newer, and not for this version.
    """
    if revision is None or revision in _known():
        return False
    found = REVISION.fullmatch(revision)
    if found is None or found[2] is None or found[2] > _number(head()):
        require_known(revision)
    return True


def _number(revision: str) -> str:
    """Four digits, so they can be compared as text."""
    return revision[:4]


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite: BEGIN IMMEDIATE holds the only write lock already
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
