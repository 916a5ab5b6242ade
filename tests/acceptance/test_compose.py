"""The images, built and started by Compose as docs/deployment.md says, on a real container engine: `make containers`.

It takes minutes, and pulls and tags images, so that it runs only where it is asked for.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.client import Client, ExperimentHandle, Sync
from service.domain.experiment import Spec
from tests.acceptance.test_containers import ROOT, checkout_files
from tests.object_server import free_ports

pytestmark = [
    pytest.mark.skipif("EPOCHD_TEST_CONTAINERS" not in os.environ, reason="wants a container engine: make containers"),
]

PASSWORD = "a@b/c:d%41 $$e'f"
"""With what a URL and a shell would have to escape."""
DEADLINE_SECONDS = 240
SHORT = Spec(activation="relu", depth=1, epochs=1)
LONG = Spec(activation="relu", depth=3, units=256, epochs=20, batch_size=50)


class Installation:
    """A checkout of its own, with volumes and a port of its own."""

    def __init__(self, folder: Path, mnist: Path) -> None:
        for name in checkout_files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
        shutil.copyfile(mnist, folder / "mnist.npz")
        (folder / "mnist.npz").chmod(0o644)
        (folder / ".env").write_text(f"POSTGRES_PASSWORD={PASSWORD}\nRAY_AUTH_TOKEN={uuid.uuid4().hex * 2}\n")
        (folder / "backups").mkdir()
        (folder / "backups").chmod(0o777)  # the image's user is none of this machine
        self.folder = folder
        (self.port,) = free_ports(1)
        self.project = f"epochd-test-{uuid.uuid4().hex[:8]}"
        self.key = ""

    def compose(self, *arguments: str) -> str:
        """`docker compose` with these arguments; what it prints."""
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.project, *arguments],
            cwd=self.folder,
            env=os.environ | {"API_PORT": str(self.port)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *options: str) -> None:
        self.compose("up", "--detach", "--wait", *options)

    def take_mnist(self) -> None:
        """Into the data volume, which is new."""
        take = ["epochd", "data", "fetch", "mnist", "--path", "/import/mnist.npz"]
        mount = f"{self.folder}/mnist.npz:/import/mnist.npz:ro"
        self.compose("run", "--rm", "--no-deps", "--volume", mount, "worker", *take)

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}", api_key=self.key)

    def trained(self, spec: Spec) -> ExperimentHandle[Sync]:
        with closing(self.client()) as client:
            return client.create(spec).wait(timeout=DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("checkout"), mnist_dir / "mnist.npz")
    made.compose("--profile", "ray", "build")
    try:
        made.compose("run", "--rm", "migrate")
        printed = made.compose(
            "run", "--rm", "migrate", "epochd", "keys", "create", "--name", "admin", "--scope", "admin"
        )
        made.key = printed.split()[-1]
        made.take_mnist()
        made.start()
        yield made
    finally:
        made.compose("--profile", "ray", "down", "--volumes", "--timeout", "30")


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


def test_a_ray_cluster_trains_the_same_weights_and_a_node_that_is_killed_costs_an_attempt(
    installation: Installation,
) -> None:
    here = installation.trained(LONG)
    installation.compose("--profile", "ray", "up", "--detach", "--wait", "--scale", "worker=0", "--scale", "ray-node=2")
    with closing(installation.client()) as client:
        assert [one.engine for one in client.workers() if one.status == "active"] == ["ray"]
        experiment = client.create(LONG)
        next(iter(experiment.epochs()))
        installation.compose("--profile", "ray", "kill", "--signal", "KILL", "ray-node")
        installation.compose("--profile", "ray", "up", "--detach", "--wait", "--scale", "worker=0")
        there = experiment.wait(timeout=DEADLINE_SECONDS)
    assert there.value.attempt == 2
    assert (there.model and there.model.weights_sha256) == (here.model and here.model.weights_sha256)
    installation.compose("--profile", "ray", "rm", "--stop", "--force", "ray-worker", "ray-node", "ray-head")
    installation.start()


def test_a_backup_is_restored_into_new_volumes(installation: Installation) -> None:
    before = installation.trained(SHORT)
    backups = f"{installation.folder}/backups:/backups"
    installation.compose("run", "--rm", "--volume", backups, "api", "epochd", "db", "backup", "/backups/monday")
    installation.compose("down", "--volumes")
    installation.start("postgres")
    installation.compose(
        "run", "--rm", "--no-deps", "--volume", backups, "api", "epochd", "db", "restore", "/backups/monday"
    )
    installation.take_mnist()
    installation.start()
    with closing(installation.client()) as client:
        assert client.get_experiment(before.id).value == before.value
    assert "0 missing, 0 damaged" in installation.compose("exec", "-T", "api", "epochd", "db", "check")
