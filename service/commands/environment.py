"""Settings of a command: the environment's, with its options over them."""

import contextlib
import difflib
import logging
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from service.commands.console import err, fail
from service.domain.access import Actor

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["log_as", "operator", "require_database", "settings_of"]

CLIENT = ("EPOCHD_URL", "EPOCHD_API_KEY", "EPOCHD_TIMEOUT_SECONDS", "EPOCHD_DEBUG")
"""Variables that are read by clients and commands, not by the service."""


def settings_of(**given: Any) -> "Settings":  # noqa: ANN401 - options
    """The environment's settings, with the options that were given on the command line over them."""
    from service.settings import Settings  # what clients do without

    _warn_of_unknown(os.environ, Settings.model_fields)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        fail("a setting cannot be used: " + "; ".join(faults))


def require_database(settings: "Settings") -> None:
    """End with a line and exit code 1 where SQLite's file is not there, or the database has nothing of epochd. Whoever
    went on would make an empty one, and look into that instead of the service's own: to which all files are garbage.
    """
    from service.store import schema  # what clients do without
    from service.store.session import Database

    with contextlib.closing(Database(settings.resolved_database_url)) as database:
        if not database.is_missing:
            if schema.current(database) is None:
                fail(f"epochd was never started on the database {database.url.database}: give the service's own")
            return
    if not settings.database_url and not settings.data_dir.is_dir():
        fail(f"there is no data folder {settings.data_dir}: give the service's own by --data-dir")
    fail(f"there is no database {database.url.database}: give the service's own by --data-dir or --database-url")


def log_as(settings: "Settings") -> None:
    """Log to standard error, from the severity on that is set."""
    from service.telemetry import logs  # what most commands do without

    logs.configure(settings.log_level, settings.log_format)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # What it says of broken forms is for whoever sends them, who would choose how fast the log grows.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def operator() -> Actor:
    """Whoever gives this command, for the audit trail: by the user's number, for `LOGNAME` may say anything."""
    name = "a user"
    with contextlib.suppress(ImportError, KeyError):  # Windows; a container's user may have no name
        import pwd

        name = pwd.getpwuid(os.getuid()).pw_name
    return Actor(name=f"{name} by command"[:100])


def _warn_of_unknown(environment: Mapping[str, str], settings: Iterable[str]) -> None:
    known = {f"EPOCHD_{name.upper()}" for name in settings} | set(CLIENT)
    for name in sorted(environment):
        if name.upper().startswith("EPOCHD_") and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            err.print(f"epochd: {name} is no setting and does nothing{hint}")
