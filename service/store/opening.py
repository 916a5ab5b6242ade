"""The stores that the settings name, for whoever works with them and needs no API."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from service.errors import StartError
from service.settings import Settings
from service.store import schema
from service.store.blobs import Blobs
from service.store.session import Database

__all__ = ["Stores", "open_database", "open_stores"]


class Stores(NamedTuple):
    """Where rows and files are."""

    database: Database
    blobs: Blobs


@contextlib.contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database, not yet migrated.

    Raises:
        StartError: the data folder cannot be made.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"the data folder {settings.data_dir} cannot be made: {error.strerror}") from None
    database = Database(settings.resolved_database_url)
    try:
        yield database
    finally:
        database.close()


@contextlib.contextmanager
def open_stores(settings: Settings, *, initialise: bool) -> Iterator[Stores]:
    """The database, made where it is empty and that is wanted, and the blob store.

    Raises:
        StartError: the data folder cannot be made.
        SchemaOutOfDate: `initialise`, and the schema is not the one this version needs.
    """
    with open_database(settings) as database:
        if initialise:
            schema.initialise(database)
        yield Stores(database, Blobs(settings.resolved_blob_url))
