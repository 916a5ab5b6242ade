"""The images, built and started by Compose as docs/deployment.md says, on a real container engine: `make containers`.

It takes minutes, and pulls and tags images, so that it runs only where it is asked for.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from PIL import Image

from service.client import Client, ExperimentHandle, Sync
from service.domain.experiment import Spec
from tests.acceptance.documentation import ROOT, apart, ends
from tests.acceptance.test_containers import checkout_files
from tests.object_server import free_ports

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif("EPOCHD_TEST_CONTAINERS" not in os.environ, reason="wants a container engine: make containers"),
]

START, MNIST, MORE, RAY, S3, MONITORING, UPGRADE, BACKUP, RESTORE = apart("deployment.md", __file__)
PASSWORD = "a@b/c:d%41 $$e'f"
"""With what a URL and a shell would have to escape."""
DEADLINE_SECONDS = 240
ONE = Image.new("L", (28, 28))
ONE.paste(255, (12, 4, 16, 24))
SHORT = Spec(activation="relu", depth=1, epochs=1)
LONG = Spec(activation="relu", depth=3, units=256, epochs=20, batch_size=50)


class Installation:
    """A checkout of its own, with volumes and ports of its own, in which the page's blocks are pasted."""

    def __init__(self, folder: Path, mnist: Path) -> None:
        for name in checkout_files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
        shutil.copyfile(mnist, folder / "mnist.npz")
        (folder / "mnist.npz").chmod(0o644)
        self.folder = folder
        self.port, self.grafana_port = free_ports(2)
        self.key = ""
        self.environment = {
            "COMPOSE_PROJECT_NAME": f"epochd-test-{uuid.uuid4().hex[:8]}",
            "API_PORT": str(self.port),
            "GRAFANA_PORT": str(self.grafana_port),
        }

    def paste(self, block: str) -> str:
        """Run a block of the page; what it prints."""
        return ends(
            block.replace("http://127.0.0.1:8000", self.url),
            self.folder,
            KEY=self.key,
            **self.environment,
        )

    def compose(self, *arguments: str) -> str:
        """`docker compose` with these arguments; what it prints."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def besides(self, profile: str, *services: str) -> Iterator[None]:
        """Take services of a profile away in the end, and be as before."""
        try:
            yield
        finally:
            (self.folder / "epochd.env").unlink(missing_ok=True)
            self.compose("--profile", profile, "rm", "--stop", "--force", *services)
            self.start("--scale", "worker=1")

    def start(self, *options: str) -> None:
        self.compose("up", "--detach", "--wait", *options)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        return Client(self.url, api_key=self.key)

    def trained(self, spec: Spec) -> ExperimentHandle[Sync]:
        with closing(self.client()) as client:
            return client.create(spec).wait(timeout=DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("checkout"), mnist_dir / "mnist.npz")
    choose, _, begin = START.partition("\n")
    made.paste(choose)
    secrets = made.folder / ".env"
    assert re.fullmatch(r"POSTGRES_PASSWORD=[0-9a-f]{48}\n", secrets.read_text())
    assert secrets.stat().st_mode & 0o777 == 0o600
    secrets.write_text(f"POSTGRES_PASSWORD={PASSWORD}\n")
    try:
        told = made.paste(begin)
        assert told.endswith('{"status":"ok"}')
        (made.key,) = re.findall(r"^epochd_\S+$", told, re.MULTILINE)
        made.paste(MNIST)
        yield made
    finally:
        profiles = [word for profile in ("ray", "s3", "monitoring") for word in ("--profile", profile)]
        made.compose(*profiles, "down", "--volumes", "--timeout", "30")


def test_an_experiment_is_trained_as_nobody_with_nothing_to_write_but_its_data(installation: Installation) -> None:
    assert installation.trained(SHORT).status == "succeeded"
    for service in ("api", "worker"):
        told = installation.compose(
            "exec", "-T", service, "sh", "-c", "id -u; grep CapEff /proc/1/status; touch /x || true"
        )
        assert told.split() == ["10001", "CapEff:", "0000000000000000"]


def test_a_worker_that_is_killed_is_started_again_and_its_experiment_goes_on(installation: Installation) -> None:
    with closing(installation.client()) as client:
        experiment = client.create(LONG)
        next(iter(experiment.epochs()))
        installation.compose("exec", "-T", "worker", "sh", "-c", "kill -9 -1")
        assert experiment.wait(timeout=DEADLINE_SECONDS).value.attempt == 2


def test_a_stopped_worker_gives_its_work_back_in_time(installation: Installation) -> None:
    with closing(installation.client()) as client:
        experiment = client.create(LONG)
        next(iter(experiment.epochs()))
        installation.compose("stop", "worker")
        assert client.get_experiment(experiment.id).status == "queued"
        installation.start()
        assert experiment.wait(timeout=DEADLINE_SECONDS).status == "succeeded"


def test_workers_can_be_many(installation: Installation) -> None:
    installation.paste(MORE)
    with closing(installation.client()) as client:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while [one.status for one in client.workers()].count("active") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    installation.start("--scale", "worker=1")


def test_a_ray_cluster_trains_the_same_weights_also_when_its_nodes_are_killed(
    installation: Installation,
) -> None:
    here = installation.trained(LONG)
    with installation.besides("ray", "ray-worker", "ray-node", "ray-head"), closing(installation.client()) as client:
        told = installation.paste(RAY.replace("ray-node=4", "ray-node=2"))
        assert '"ray"' in told
        assert [one.engine for one in client.workers() if one.status == "active"] == ["ray"]
        experiment = client.create(LONG)
        next(iter(experiment.epochs()))
        installation.compose("--profile", "ray", "kill", "--signal", "KILL", "ray-node")
        installation.compose("--profile", "ray", "up", "--detach", "--wait", "--scale", "worker=0")
        there = experiment.wait(timeout=DEADLINE_SECONDS)
    assert there.value.attempt in {2, 3}  # one for each node that had it
    assert (there.model and there.model.weights_sha256) == (here.model and here.model.weights_sha256)


def test_models_go_to_an_object_store(installation: Installation) -> None:
    with installation.besides("s3", "s3"), closing(installation.client()) as client:
        installation.paste(S3)
        trained = installation.trained(SHORT)
        assert client.predict(ONE, model=trained.id).digit in range(10)
        weights = installation.compose("exec", "-T", "s3", "find", "/data", "-size", "+40k", "-name", "*.dat")
        assert weights != ""
        client.get_experiment(trained.id).delete()  # it would be missed where the store is a folder again


def test_prometheus_and_grafana_look_at_it(installation: Installation) -> None:
    with installation.besides("monitoring", "prometheus", "grafana"):
        installation.paste(MONITORING)
        deadline = time.monotonic() + DEADLINE_SECONDS
        ask = ["wget", "-q", "-O", "-", "http://127.0.0.1:9090/api/v1/query?query=sum(up)by(job)"]
        jobs: set[str] = set()
        while jobs != {"epochd", "epochd-workers"}:
            assert time.monotonic() < deadline
            time.sleep(0.5)
            found = json.loads(installation.compose("exec", "-T", "prometheus", *ask))["data"]["result"]
            jobs = {one["metric"]["job"] for one in found if one["value"][1] == "1"}
        assert httpx.get(f"http://127.0.0.1:{installation.grafana_port}/api/health").is_success


def test_an_upgrade_keeps_what_there_is(installation: Installation) -> None:
    before = installation.trained(SHORT)
    installation.paste(UPGRADE)
    installation.start()
    with closing(installation.client()) as client:
        assert client.get_experiment(before.id).value == before.value


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a folder to somebody else")
def test_a_backup_is_restored_into_new_volumes(installation: Installation) -> None:
    before = installation.trained(SHORT)
    installation.paste(BACKUP)
    installation.compose("down", "--volumes")
    installation.paste(RESTORE)
    installation.paste(MNIST)
    with closing(installation.client()) as client:
        assert client.get_experiment(before.id).value == before.value
    assert "0 missing, 0 damaged" in installation.compose("exec", "-T", "api", "epochd", "db", "check")
