"""Connections and transactions, the same for SQLite and PostgreSQL."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from service.errors import InvalidInput, Unavailable

__all__ = ["Database", "insert_if_absent"]

SQLITE_BUSY_MS = 5_000
SQLITE_TURN_SECONDS = 15.0
"""For a write of this process to get its turn among those of its own threads. They go on, other than whoever has locked
the file for long; and a crowd on a busy machine may be long."""
POSTGRES_CONNECT_SECONDS = 5
POSTGRES_ANSWER_SECONDS = 30.0
"""For the answer to one statement. Nothing that a request or a worker asks takes a second, unless it waits for a lock;
what is known to take longer, such as a migration, waits without end."""
POSTGRES_ENCODING = "UTF8"
# A server that is cut off says nothing. Without these a write would wait for the kernel to give up: minutes, or hours.
POSTGRES_KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


POSTGRES_SESSION = (
    "SET idle_in_transaction_session_timeout = '15s'",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 3",
    "SET tcp_keepalives_count = 3",
)
"""The same seen from the server: a host that is cut off in the middle of a transaction must not hold its locks."""


class Database:
    """Gives transactions. One is opened and ended at the edge of every request or event.

    SQLite: a plain BEGIN that reads and then writes fails with "database is locked" in spite of any timeout, when
    another writer came between. So the driver's own BEGIN is off, and writers begin with BEGIN IMMEDIATE.
    (https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#serializable-isolation-savepoints-transactional-ddl)
    """

    def __init__(self, url: str) -> None:
        """Make the pool; no connection is opened yet.

        Raises:
            InvalidInput: the URL names no database that epochd can use.
        """
        self.url = _normalised(url)
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        self._read = sessionmaker(self.engine, expire_on_commit=False)
        self._turn = threading.Lock()
        self._write = sessionmaker(self.engine.execution_options(sqlite_begin="IMMEDIATE"), expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def is_missing(self) -> bool:
        """Whether it is SQLite's file and not there: whoever connects makes it."""
        return self.is_sqlite and not Path(self.url.database or "").exists()

    @contextmanager
    def read(self, *, unhurried: bool = False) -> Iterator[Session]:
        """A transaction that only reads; `unhurried` where one statement may take minutes.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with _translated(), self._read() as session, session.begin():
            if unhurried:
                _wait_without_end(session.connection())
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; committed when the block ends, rolled back when it raises.

        Raises:
            Unavailable: the database cannot be reached, or is locked by somebody else.
        """
        with _translated(), self._in_turn(), self._write() as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A bare connection in a transaction that sees the database as it is now, however long it goes on and whatever
        others write meanwhile. They wait for it nowhere.

        Raises:
            Unavailable: the database cannot be reached.
        """
        options: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with _translated(), self.engine.execution_options(**options).begin() as connection:
            _wait_without_end(connection)
            if not self.is_sqlite:
                # What is read goes to a disk or a store that may be slow, and no lock is held that anybody waits for.
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield connection

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A bare connection in a transaction that may write, for migrations.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with _translated(), self.engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
            _wait_without_end(connection)
            yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """SQLite lets one write at a time, and those that wait look again ever more rarely, so that many starve.
        Within a process they take turns instead, and a connection only when it is theirs.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=SQLITE_TURN_SECONDS):
            raise Unavailable(_unusable(LOCKED))
        try:
            yield
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


FULL = "its disk is full"
LOCKED = "it is locked"
CROWDED = "the server takes no more connections"
NOT_WRITTEN = "it cannot be written"
SQLSTATES = {"25006": NOT_WRITTEN, "53100": FULL, "53300": CROWDED, "55P03": LOCKED}
"""PostgreSQL's names of faults in statements (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
REASONS = (
    ("authentication failed|no password supplied|role .*does not exist", "it refuses the user or the password"),
    ("no pg_hba.conf entry|permission denied|not permitted", "it does not let this user in from this machine"),
    ("database .*does not exist", "the server has no database of this name"),
    ("too many|no more connections|connection slots", CROWDED),
    ("certificate|SSL (?!SYSCALL)", "TLS between it and this machine fails"),
    ("is locked|lock timeout", LOCKED),
    ("is full|No space left", FULL),
    ("readonly database", NOT_WRITTEN),
    ("no answer", "it gives no answer"),
    ("FATAL", "the server refuses the connection, and its log says why"),
)
"""What else drivers write, without the names of places and people in it, and what is told of it."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Unavailable(_unusable(_reason(error))) from error
    except DatabaseError as error:
        if _sqlstate(error) in SQLSTATES:
            raise Unavailable(_unusable(_reason(error))) from error
        if type(error) is not DatabaseError:  # its other children are faults of a statement, not of the database
            raise
        raise Unavailable("the database cannot be used: its file is damaged, or is none of SQLite's") from error


def _unusable(reason: str) -> str:
    return f"the database cannot be used now: {reason}"


def _reason(error: Exception) -> str:
    """The kind of fault, without the SQL, the address or the password that the driver's own text may hold."""
    if (state := _sqlstate(error)) in SQLSTATES:
        return SQLSTATES[state]
    told = re.sub("\"[^\"]*\"|'[^']*'", "", str(getattr(error, "orig", error)))  # SQLAlchemy's text has the statement
    return next((reason for sign, reason in REASONS if re.search(sign, told)), "it cannot be reached")


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def insert_if_absent(session: Session, table: type[DeclarativeBase], **values: object) -> bool:
    """Insert a row, or return False where its key is taken. On PostgreSQL this waits for a transaction that is
    inserting the same key, and takes its outcome for the answer.
    """
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    keys = list(table.__table__.primary_key)
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing().returning(*keys)
    return session.execute(statement).first() is not None


def _normalised(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter where the port is no number
        raise InvalidInput("the database URL cannot be read: sqlite:///path or postgresql://...") from None
    drivers = {
        "sqlite": "sqlite+pysqlite",
        "postgresql": "postgresql+psycopg",
        "postgres": "postgresql+psycopg",
    }
    backend = parsed.drivername.split("+")[0]
    if backend not in drivers:
        raise InvalidInput(f"the database {backend!r} is not supported: sqlite:///path or postgresql://...")
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise InvalidInput("SQLite needs a file: sqlite:///path. The API and the worker are two processes")
    return parsed.set(drivername=drivers[backend])


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        pool_pre_ping=True,
        hide_parameters=True,
        pool_size=10,
        max_overflow=20,
        connect_args={
            "connect_timeout": POSTGRES_CONNECT_SECONDS,
            "application_name": "epochd",
            "client_encoding": POSTGRES_ENCODING,  # whatever PGCLIENTENCODING says
            # A prepared statement is sooner or later planned without its values: then no partial index fits, and what
            # idle workers ask ten times a second reads the whole table.
            "prepare_threshold": None,
            **POSTGRES_KEEPALIVE,
        },
    )
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _set_session)
    event.listen(engine, "checkout", _hurry)
    return engine


def _connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Any:  # noqa: ANN401 - the driver's
    from service.store.patience import ImpatientConnection  # where the database is SQLite, it would take 8 MB

    connection = ImpatientConnection.connect(*arguments, **options)
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in {POSTGRES_ENCODING, None}:  # None behind a pooler that does not pass it on
        connection.close()
        raise Unavailable(
            f"the database cannot be used: its encoding is {encoding}, which cannot hold every name. "
            f"Make one that can: createdb --encoding={POSTGRES_ENCODING} --locale=C --template=template0 NAME"
        )
    _hurry(connection)
    return connection


def _hurry(connection: Any, *_: object) -> None:  # noqa: ANN401 - the driver's
    connection.answer_seconds = POSTGRES_ANSWER_SECONDS


def _wait_without_end(connection: Connection) -> None:
    """Until it is given back, this connection waits for every answer."""
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        driver.answer_seconds = None


def _set_session(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
    connection.autocommit = True
    for statement in POSTGRES_SESSION:
        connection.execute(statement)
    connection.autocommit = False


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url, connect_args={"check_same_thread": False}, pool_size=10, max_overflow=20, hide_parameters=True
    )
    event.listen(engine, "do_connect", _make_private)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _make_private(_dialect: object, _record: object, arguments: Any, _options: object) -> None:  # noqa: ANN401
    """Make the file before SQLite does: the owner's alone. What SQLite puts beside it gets the same permissions."""
    with contextlib.suppress(OSError):  # it is there, or cannot be: SQLite says it better
        os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL, 0o600))


def _set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={SQLITE_BUSY_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
