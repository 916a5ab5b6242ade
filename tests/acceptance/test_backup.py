"""A service is backed up while it trains, and goes on elsewhere, on the other kind of database."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import fails, run
from tests.acceptance.test_outages import Part, Site, eventually, started

EPOCHS = 5
SPEC = {"activation": "relu", "depth": 2, "epochs": EPOCHS}
ENVIRONMENT = {"EPOCHD_CHECKPOINT_SECONDS": "0"}
PICTURE = [[255 * (11 < column < 16 and 3 < row < 25) for column in range(28)] for row in range(28)]


def folder(parent: Path, name: str, mnist_dir: Path) -> Path:
    """A data folder that has MNIST."""
    made = parent / name
    (made / "datasets").mkdir(parents=True)
    (made / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
    return made


@pytest.fixture
def urls(postgres_url: str, tmp_path: Path) -> tuple[str, str]:
    """Where the service is, and where it comes back. The way from PostgreSQL: `tests/integration/test_backup.py`."""
    return f"sqlite:///{tmp_path / 'a file.sqlite3'}", postgres_url


@contextlib.contextmanager
def frozen(worker: Part) -> Iterator[None]:
    """Its trainers do not come to their end meanwhile, however long it takes. The worker itself goes on."""
    trainers = worker.below()
    for trainer in trainers:
        trainer.suspend()
    yield
    for trainer in trainers:
        trainer.resume()


def told(site: Site, experiment_id: str) -> dict[str, Any]:
    """What must be the same wherever it was trained: all but the clock."""
    metrics = site.insist("GET", f"/experiments/{experiment_id}/metrics")
    answer = site.insist("POST", "/predict", json={"image": PICTURE}, params={"experiment_id": experiment_id})
    return {
        "weights": site.get(experiment_id)["model"]["weights_sha256"],
        "test": metrics["test"],
        "epochs": [epoch | {"seconds": None} for epoch in metrics["epochs"]],
        "predictions": answer["predictions"],
    }


def test_what_trained_goes_on_elsewhere_with_the_same_bits(
    urls: tuple[str, str], mnist_dir: Path, tmp_path: Path
) -> None:
    here, there = urls
    backup = str(tmp_path / "backup")
    with started(folder(tmp_path, "here", mnist_dir), here, **ENVIRONMENT) as site:
        worker = site.work()
        whole, running = site.create(SPEC | {"epochs": 1}), site.create(SPEC)
        site.succeeded(whole)
        eventually(lambda: site.get(running)["progress"]["epoch"] >= 2, "epoch 2")
        with frozen(worker):
            done = run(
                "db", "backup", backup, cwd=tmp_path, EPOCHD_DATA_DIR=str(tmp_path / "here"), EPOCHD_DATABASE_URL=here
            )
        assert done.returncode == 0, done.stderr
        site.succeeded(running)  # nothing has disturbed it
        expected = {one: told(site, one) for one in (whole, running)}
    where = {"EPOCHD_DATA_DIR": str(folder(tmp_path, "there", mnist_dir)), "EPOCHD_DATABASE_URL": there}
    again = run("db", "restore", backup, cwd=tmp_path, **where)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith("are restored; 1 experiments are queued again\n")
    assert "not empty" in fails(run("db", "restore", backup, cwd=tmp_path, **where))
    with started(tmp_path / "there", there, **ENVIRONMENT) as site:
        assert told(site, whole) == expected[whole]
        assert site.get(running)["progress"]["epoch"] in range(1, EPOCHS + 1)
        site.work()
        site.succeeded(running)
        assert told(site, running) == expected[running]
        events = site.events(running)
        assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
        assert [data["epoch"] for _, kind, data in events if kind == "epoch"] == list(range(1, EPOCHS + 1))
        assert "restored" in [data.get("reason") for _, kind, data in events if kind == "status"]
    check = run("db", "check", cwd=tmp_path, **where)
    assert "0 missing, 0 damaged, 0 orphaned" in check.stdout


def test_a_backup_is_read_through_without_a_service(tmp_path: Path) -> None:
    backup = str(tmp_path / "backup")
    data = {"EPOCHD_DATA_DIR": str(tmp_path / "data")}
    assert "there is no data folder" in fails(run("db", "backup", backup, cwd=tmp_path, **data))
    assert run("db", "upgrade", cwd=tmp_path, **data).returncode == 0
    assert run("db", "backup", backup, cwd=tmp_path, **data).returncode == 0
    assert run("db", "restore", backup, "--dry-run", cwd=tmp_path).stdout.endswith("are whole\n")
    (tmp_path / "backup" / "backup.json").unlink()
    assert "cut short" in fails(run("db", "restore", backup, "--dry-run", cwd=tmp_path))
