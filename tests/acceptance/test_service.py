"""The whole service: the command, real training on MNIST through HTTP, predictions, and a clean end."""

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from service import datasets
from tests.acceptance.conftest import DEADLINE_SECONDS, Service, serving
from tests.conftest import empty_postgres_database


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_SECONDS)
    return not alive


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path
) -> Iterator[Service]:
    """A service with a worker, on SQLite and on PostgreSQL, which the tests of each share."""
    data_dir = tmp_path_factory.mktemp("service")
    (data_dir / "datasets").mkdir()
    (data_dir / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
    with contextlib.ExitStack() as kept:
        url = f"sqlite:///{data_dir / 'epochd.sqlite3'}"
        if request.param == "postgresql":
            url = kept.enter_context(empty_postgres_database(request.getfixturevalue("postgres")))
        yield kept.enter_context(serving(data_dir, "--database-url", url))


def test_the_articles_networks_train_through_http_and_predict(service: Service, mnist: datasets.Arrays) -> None:
    relu = service.create(activation="relu", depth=1)
    sigmoid = service.create(activation="sigmoid", depth=1)
    relu, sigmoid = service.succeeded(relu["id"]), service.succeeded(sigmoid["id"])
    assert relu["result"]["test_accuracy"] > 0.915
    assert 0.885 < sigmoid["result"]["test_accuracy"] < 0.910

    metrics = service.metrics(relu["id"])
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == list(range(1, 11))
    assert all(len(epoch["gradient_norms"]) == 2 for epoch in metrics["epochs"])
    assert metrics["test"]["accuracy"] == relu["result"]["test_accuracy"]
    assert metrics["epochs"][-1]["loss"] < metrics["epochs"][0]["loss"]

    service.http.put("/models/first", json={"experiment_id": relu["id"]}).raise_for_status()
    asked = {"images": mnist.x_test[:1000].tolist()}
    answers = service.http.post("/predict?model=first", json=asked).raise_for_status().json()
    assert answers["experiment_id"] == relu["id"]
    digits = [prediction["digit"] for prediction in answers["predictions"]]
    assert (np.array(digits) == mnist.y_test[:1000]).mean() > 0.88
    picture = service.http.post(
        "/predict?model=first", content=png(mnist.x_test[0]), headers={"Content-Type": "image/png"}
    ).raise_for_status()
    assert picture.json()["predictions"][0] == answers["predictions"][0]
    assert picture.json()["predictions"][0]["digit"] == mnist.y_test[0]


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_CORE"), reason="other processes' limits are seen on Linux only")
def test_none_of_its_processes_leaves_a_core(service: Service) -> None:
    service.succeeded(service.create(activation="relu", depth=1, epochs=1)["id"])  # by when all of them are there
    assert {one.rlimit(psutil.RLIMIT_CORE) for one in service.processes()} == {(0, 0)}


def test_what_it_writes_is_for_its_owner_alone(service: Service) -> None:
    service.succeeded(service.create(activation="relu", depth=1, epochs=1)["id"])
    arguments = service.process.args
    assert isinstance(arguments, list)
    data_dir = Path(arguments[arguments.index("--data-dir") + 1])
    blobs = [*(data_dir / "blobs").rglob("*")]
    files = [path for path in [*data_dir.glob("*.sqlite3*"), *blobs] if path.is_file()]
    assert len(files) >= 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in blobs if path.is_dir()} == {0o700}


def test_metrics_are_visible_epoch_by_epoch_while_training_runs(service: Service) -> None:
    created = service.create(activation="relu", depth=2, epochs=20)
    seen = set()
    events = []
    with service.http.stream("GET", f"/experiments/{created['id']}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            if line.startswith("data: ") and events[-1] == "epoch":
                epoch = json.loads(line.removeprefix("data: "))["epoch"]
                metrics = service.metrics(created["id"])
                assert len(metrics["epochs"]) >= epoch
                seen.add((metrics["status"], len(metrics["epochs"])))
    assert events == ["status", "status", *["epoch"] * 20, "status", "done"]
    assert any(status == "running" and 0 < count < 20 for status, count in seen)


def test_a_running_experiment_is_cancelled_and_a_new_one_repeats_it(service: Service) -> None:
    created = service.create(activation="relu", depth=1, epochs=1000)
    service.until(created["id"], lambda body: body["progress"]["epoch"] >= 2)
    answer = service.http.post(f"/experiments/{created['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    cancelled = service.until(created["id"], lambda body: body["finished_at"] is not None)
    assert cancelled["status"] == "cancelled"
    assert len(service.metrics(created["id"])["epochs"]) >= 2
    again = service.http.post(f"/experiments/{created['id']}/retry").json()
    assert again["retry_of"] == created["id"]
    assert again["spec"] == created["spec"]
    service.http.post(f"/experiments/{again['id']}/cancel").raise_for_status()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_service_leaves_no_process_and_gives_its_work_back(data_dir: Path, number: signal.Signals) -> None:
    with serving(data_dir) as service:
        created = service.create(activation="relu", depth=1, epochs=1000)
        service.until(created["id"], lambda body: body["progress"]["epoch"] >= 2)
        processes = service.processes()
        assert len(processes) >= 3  # the API, the worker, and at least one trainer
        assert service.stop(number) == 0
        assert gone(processes)
    with serving(data_dir, "--no-worker") as service:
        found = service.get(created["id"])
        assert found["status"] == "queued"
        assert found["progress"]["epoch"] >= 2


def test_when_the_api_is_killed_the_worker_ends_too(data_dir: Path) -> None:
    with serving(data_dir) as service:
        created = service.create(activation="relu", depth=1, epochs=1000)
        service.until(created["id"], lambda body: body["progress"]["epoch"] >= 1)
        processes = service.processes()
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait()
        assert gone(processes)


def test_a_killed_worker_is_started_again_and_its_experiment_ends_with_the_same_weights(data_dir: Path) -> None:
    with serving(data_dir, EPOCHD_LEASE_SECONDS="1", EPOCHD_CHECKPOINT_SECONDS="0") as service:
        wanted = {"activation": "relu", "depth": 1, "epochs": 15, "batch_size": 200}
        undisturbed = service.succeeded(service.create(**wanted)["id"])
        created = service.create(**wanted)
        service.until(created["id"], lambda body: body["progress"]["epoch"] >= 2)
        (worker,) = [
            process for process in psutil.Process(service.process.pid).children() if "worker" in process.cmdline()
        ]
        worker.kill()
        ended = service.succeeded(created["id"])
        assert ended["attempt"] >= 2
        assert ended["model"]["weights_sha256"] == undisturbed["model"]["weights_sha256"]
        ours, theirs = (service.metrics(one["id"])["epochs"] for one in (ended, undisturbed))
        assert [e | {"seconds": 0} for e in ours] == [e | {"seconds": 0} for e in theirs]


def test_the_banner_names_the_page_and_the_docs_and_both_answer(data_dir: Path) -> None:
    with serving(data_dir, "--no-worker") as service:
        assert f"{service.url}/docs" in service.banner
        assert service.http.get("/docs").status_code == 200
        assert service.http.get("/", follow_redirects=True).status_code == 200
        assert len(service.processes()) == 1
