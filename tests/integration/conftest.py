"""The API on a real server and a real database, without a worker."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psycopg
import pytest
import uvicorn
from sqlalchemy import make_url

from service.api.deps import Ports
from service.domain.events import Trained
from service.domain.experiment import EpochMetrics, HiddenLayer, Spec
from service.main import create
from service.settings import Settings
from service.store import experiments, queue
from service.store.blobs import Blobs
from service.store.queue import Claim, ModelFiles
from service.store.session import Database
from tests.conftest import POSTGRESQL, empty_postgres_database
from tests.ray_cluster import RayCluster, ray_cluster


class Api(httpx.Client):
    """A client of one API, which also lets a test look behind it."""

    ports: Ports


def problem(response: httpx.Response, status: int, kind: str | None = None) -> dict[str, Any]:
    """The problem that a response is, whole and of this status and kind."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body.keys() - {"errors"} == {"type", "title", "status", "detail", "instance", "error", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["type"].startswith("urn:epochd:problem:")
    assert kind in {None, body["type"].removeprefix("urn:epochd:problem:")}
    assert body["status"] == status
    assert body["title"]
    assert body["detail"] == body["error"] != ""
    assert body["instance"] == response.request.url.raw_path.decode().split("?")[0]
    assert ("errors" in body) == (status == 422)
    for fault in body.get("errors", []):
        assert fault.keys() == {"pointer", "message", "location"}
        assert fault["location"] in {"body", "query", "path", "header"}
    return body


TLS = httpx.create_ssl_context()
"""Nothing here needs it, but every client makes one, which takes 20 milliseconds."""


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[Api]:
    """The API on a free port of this machine, in a thread."""
    app = create(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with Api(base_url=url, timeout=30, transport=httpx.HTTPTransport(TLS, retries=3)) as client:
                client.get("/health/live").raise_for_status()
                client.ports = app.state.ports
                yield client
        finally:
            if hasattr(app.state, "ports"):
                app.state.ports.stopping.set()
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def out_of_reach(url: str) -> Iterator[None]:
    """Cut every connection to a database of PostgreSQL, and let nobody in."""
    name = make_url(url).database
    assert name is not None
    with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as server:
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def claim(api: Api, **spec: Any) -> Claim:
    """A new experiment that has begun, as a worker has it."""
    wanted = Spec.model_validate({"activation": "relu", "depth": 1, "priority": 1000} | spec)
    with api.ports.database.write() as session:
        experiments.create(session, wanted)
        claimed = queue.claim(session, owner="test", lease_seconds=600)
    assert claimed is not None
    return claimed


def record(api: Api, claimed: Claim, number: int, **values: Any) -> None:
    """An epoch of it has ended."""
    depth = claimed.spec.depth
    found = {
        "epoch": number,
        "loss": 1 / number,
        "accuracy": 0.5,
        "val_loss": 0.1 + 0.2,  # has 17 digits
        "val_accuracy": 0.25,
        "seconds": 1.5,
        "gradient_norms": tuple(float(layer + 1) for layer in range(depth + 1)),
        "gradient_ratio": 1 / (depth + 1),
        "gradients": "healthy",
        "hidden": tuple(
            HiddenLayer(mean=0.5, standard_deviation=layer + 1.0, saturated=None, dead=0.125) for layer in range(depth)
        ),
    }
    with api.ports.database.write() as session:
        queue.record_epoch(session, claimed, EpochMetrics.model_validate(found | values))


def finish(api: Api, claimed: Claim, onnx: bytes) -> None:
    """It has succeeded, with this ONNX file."""
    one = claimed.experiment_id
    trained = Trained(
        experiment_id=one, test_loss=0.5, test_accuracy=0.75, evaluation_seconds=0.5, parameters=12_730,
        weights_sha256="a" * 64, keras=b"keras", onnx=onnx,
    )  # fmt: skip
    blobs = api.ports.blobs
    files = ModelFiles(keras_sha256=blobs.put(one, trained.keras), onnx_sha256=blobs.put(one, trained.onnx))
    with api.ports.database.write() as session:
        queue.finish(session, claimed, trained, files)


@pytest.fixture(scope="module")
def ray_cluster_of_one() -> Iterator[RayCluster]:
    """A Ray cluster of one node, whose address and token are in the environment.

    It ends with its module: a cluster of that module which began before it would else take the environment back.
    """
    with (
        ray_cluster(num_cpus=2, num_gpus=1, resources={"highmem": 1}) as cluster,
        mock.patch.dict(os.environ, cluster.environment),
    ):
        yield cluster


@pytest.fixture
def api(migrated_url: str, tmp_path: Path) -> Iterator[Api]:
    """A client of the API, on each kind of database in turn."""
    with serving(Settings(data_dir=tmp_path / "data", database_url=migrated_url)) as client:
        yield client


@pytest.fixture(scope="module")
def empty_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A client of the API on SQLite that a whole module shares, for requests that must change nothing. At the end
    there is still no experiment and no alias.
    """
    with serving(Settings(data_dir=tmp_path_factory.mktemp("empty"))) as client:
        yield client
        assert client.get("/experiments").json() == {"data": [], "next_cursor": None}
        assert client.get("/models").json() == {"data": []}


@pytest.fixture
def sqlite_api(migrated_dir: Path) -> Iterator[Api]:
    """A client of the API on SQLite, for what does not depend on the database."""
    with serving(Settings(data_dir=migrated_dir)) as client:
        yield client


@pytest.fixture
def elsewhere(tmp_path: Path) -> Blobs:
    """An empty blob store to restore into."""
    return Blobs((tmp_path / "restored").as_uri())


@pytest.fixture
def files(tmp_path: Path) -> Blobs:
    """The blob store of the service, in a folder."""
    return Blobs((tmp_path / "blobs").as_uri())


@pytest.fixture
def sqlite(tmp_path: Path, sqlite_template: Path) -> Iterator[Database]:
    """A database for what does not depend on its kind."""
    path = tmp_path / "one.sqlite3"
    path.write_bytes(sqlite_template.read_bytes())
    with contextlib.closing(Database(f"sqlite:///{path}")) as database:
        yield database


@pytest.fixture
def sqlite_empty(tmp_path: Path) -> Iterator[Database]:
    """An empty database to restore into, for what does not depend on its kind."""
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'restored.sqlite3'}")) as database:
        yield database


@pytest.fixture(params=["sqlite", POSTGRESQL])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database to restore into, of each kind in turn, whatever the backup is of."""
    if request.param == "sqlite":
        with contextlib.closing(Database(f"sqlite:///{tmp_path / 'restored.sqlite3'}")) as database:
            yield database
        return
    with (
        empty_postgres_database(request.getfixturevalue("postgres")) as url,
        contextlib.closing(Database(url)) as database,
    ):
        yield database
