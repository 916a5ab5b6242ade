"""The API on a real server and a real database, without a worker."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from service.api.deps import Ports
from service.main import create
from service.settings import Settings


class Api(httpx.Client):
    """A client of one API, which also lets a test look behind it."""

    ports: Ports


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[Api]:
    """The API on a free port of this machine, in a thread."""
    app = create(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Api(base_url=url, timeout=30, transport=httpx.HTTPTransport(retries=3)) as client:
            client.get("/health/live").raise_for_status()
            client.ports = app.state.ports
            yield client
        client.ports.stopping.set()
        server.should_exit = True
        thread.join()


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    """A client of the API, on each kind of database in turn."""
    with serving(Settings(data_dir=tmp_path / "data", database_url=database_url)) as client:
        yield client


@pytest.fixture
def sqlite_api(tmp_path: Path) -> Iterator[Api]:
    """A client of the API on SQLite, for what does not depend on the database."""
    with serving(Settings(data_dir=tmp_path / "data")) as client:
        yield client
