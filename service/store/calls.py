"""Calls from the database: a worker hears at once of new work and of cancels, where the database can call.

PostgreSQL has LISTEN and NOTIFY (https://www.postgresql.org/docs/current/sql-notify.html): a call is sent when its
transaction commits, and may be lost with a connection. SQLite has nothing of the kind. So calls only make somebody look
earlier who looks from time to time anyway. They are for what is rare: each wakes every process that listens.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.store.session import Database

__all__ = ["Calls", "call_workers"]

CHANNEL = "epochd_work"
RETRY_SECONDS = 1.0
LISTEN_SECONDS = 1.0
"""How soon a listener notices that it shall end."""


def call_workers(session: Session) -> None:
    """Have every worker look, once this transaction has committed."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_notify(CHANNEL, "")))


class Calls:
    """Listens to the database, from a thread of its own."""

    def __init__(self, database: Database, heard: Callable[[], None]) -> None:
        """`heard` is called from another thread."""
        self._database = database
        self._heard = heard
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.listening = False
        """Whether the database would call now."""

    def start(self) -> None:
        """Listen from now on, if the database calls."""
        if not self._database.is_sqlite:
            self._thread = threading.Thread(target=self._listen, name="calls", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = engine.dialect.dbapi  # not imported here: where the database is SQLite, it would take 8 MB
        while not self._closed.is_set():
            with contextlib.suppress(driver.Error, SQLAlchemyError), engine.connect() as connection:
                try:
                    self._follow(connection)
                finally:
                    connection.invalidate()  # it would go on listening in the pool
            self.listening = False
            self._closed.wait(RETRY_SECONDS)

    def _follow(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        driver: Any = connection.connection.driver_connection
        self.listening = True
        self._heard()  # what was called before is unknown
        while not self._closed.is_set():
            for _ in driver.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                self._heard()
