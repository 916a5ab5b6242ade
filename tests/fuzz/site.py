"""A service to fuzz: the installed command, with a model and no worker, so that what is queued stays so."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from service.domain.access import Scope
from service.settings import Settings
from service.store import keys, schema
from service.store.blobs import Blobs
from service.store.session import Database
from tests.acceptance.conftest import DEADLINE_SECONDS, Service, serving
from tests.conftest import succeed
from tests.fuzz.wire import CANARY

__all__ = ["keys_of_each_scope", "site"]

LIMITS = {
    "EPOCHD_LOG_LEVEL": "error",  # nobody reads what it says
    "EPOCHD_FAILED_KEY_RATE_LIMIT": "",  # else most of what has no key would be answered by it
    "EPOCHD_HEAD_SECONDS": "2",
    "EPOCHD_BODY_SECONDS": "2",
}


@contextlib.contextmanager
def site(folder: Path, onnx: bytes) -> Iterator[tuple[Service, str]]:
    """The service, with its data in `folder`, and the id of an experiment whose model is `onnx`."""
    settings = Settings(data_dir=folder)
    folder.mkdir(exist_ok=True)
    (folder / "canary").write_text(CANARY)
    with contextlib.closing(Database(settings.resolved_database_url)) as database:
        schema.initialise(database)
        known = succeed(database, Blobs(settings.resolved_blob_url), onnx).id
    with serving(folder, "--no-worker", **LIMITS) as service:
        yield service, known


def keys_of_each_scope(service: Service, folder: Path) -> dict[str, str]:
    """A new API key for each scope: from now on the service asks for one."""
    with (
        contextlib.closing(Database(Settings(data_dir=folder).resolved_database_url)) as database,
        database.write() as session,
    ):
        tokens = {one.value: keys.create(session, name=one.value, scopes=[one], expires_at=None)[1] for one in Scope}
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not service.http.get("/session").json()["asks_for_key"]:  # it reads its keys anew every few seconds
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return tokens
