"""The installed command: help, errors, the database, the datasets, the demonstration."""

import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url

from service import datasets
from service.main import open_ports
from service.settings import Settings
from service.store import schema
from service.store.session import Database
from tests.acceptance.conftest import fails, run
from tests.acceptance.forks import call
from tests.conftest import succeed

COMMANDS = (
    "serve", "worker", "train", "list", "show", "cancel", "retry", "delete", "sweep", "compare", "predict", "demo",
    "export", "figure", "reproduce", "db upgrade", "db check", "db gc", "db prune", "data fetch",
    "keys create", "keys list", "keys revoke", "audit",
)  # fmt: skip


def test_version_and_help_name_every_command(tmp_path: Path) -> None:
    assert re.fullmatch(r"epochd \d+\.\d+\.\d+\n", run("--version", cwd=tmp_path).stdout)
    text = call("--help", cwd=tmp_path).stdout
    assert all(command.split()[0] in text for command in COMMANDS)
    assert "130 Ctrl-C" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(tmp_path: Path, command: str) -> None:
    done = call(*command.split(), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example: epochd" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_db_upgrade_makes_the_schema_and_then_finds_it(tmp_path: Path, database_url: str) -> None:
    first = run("db", "upgrade", "--database-url", database_url, cwd=tmp_path)
    name = make_url(database_url).database
    assert first.stdout == f"a new database was made, at revision {schema.head()}: {name}\n", first.stderr
    again = run("db", "upgrade", "--database-url", database_url, cwd=tmp_path)
    assert again.stdout == f"the database is at revision {schema.head()} already\n"
    database = Database(database_url)
    assert schema.current(database) == schema.head()
    database.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--older-than"),
        (["--older-than", "soon"], "12h, 90d, 26w"),
        (["--older-than", "-1d"], "12h, 90d, 26w"),
        (["--older-than", "1d", "--status", "running"], "'cancelled'"),
    ],
)
def test_db_prune_takes_no_age_and_no_end_that_it_does_not_know(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = call("db", "prune", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_db_prune_says_what_it_did(tmp_path: Path, database_url: str, tiny_onnx: bytes) -> None:
    settings = Settings(data_dir=tmp_path / "epochd-data", database_url=database_url)
    with open_ports(settings) as ports:
        for accuracy in (0.1, 0.9, 0.2):
            succeed(ports.database, ports.blobs, tiny_onnx, accuracy=accuracy)
    where = ("--database-url", database_url)
    assert "0 experiments" in run("db", "prune", "--older-than", "1h", *where, cwd=tmp_path).stdout
    would = run("db", "prune", "--older-than", "0d", "--dry-run", *where, cwd=tmp_path)
    assert would.stdout == "1 experiments, 0 sweeps and 2 files would be deleted\n", would.stderr
    events = run("db", "prune", "--older-than", "0d", "--events-only", *where, cwd=tmp_path)
    assert events.stdout == "9 events of 3 experiments deleted\n"
    done = json.loads(run("db", "prune", "--older-than", "0d", "--json", *where, cwd=tmp_path).stdout)
    counts = {"experiments": 1, "sweeps": 0, "events": 0, "files": 2, "audit_entries": 0}
    assert done == {**counts, "dry_run": False, "complete": True}
    assert len(list((tmp_path / "epochd-data" / "blobs").glob("*/*"))) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "99999"], "port"),
        (["serve", "--slots", "0"], "slots"),
        (["serve", "--database-url", "mysql://x"], "postgresql://"),
        (["serve", "--database-url", "sqlite://"], "sqlite:///path"),
        (["db", "upgrade", "--database-url", "postgresql://u:hush@127.0.0.1:1/x"], "cannot be reached"),
        (["worker", "--database-url", "postgresql://u:hush@127.0.0.1:1/x"], "cannot be reached"),
        (["data", "fetch", "mnist", "--path", "no-such-file.npz"], "no such file"),
        (["serve", "--data-dir", "/proc/nowhere"], "/proc/nowhere"),
        (["serve", "--host", "nohost.invalid"], "no host nohost.invalid"),
        (["demo", "--port", "99999"], "port"),
        (["data", "fetch", "mnist", "--data-dir", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    line = fails(call(*arguments, cwd=tmp_path))
    assert said in line
    assert "hush" not in line


def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    assert "lease_seconds" in fails(call("serve", cwd=tmp_path, EPOCHD_LEASE_SECONDS="soon"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("EPOCHD_BLOB_URL", "gopher://x", "blob URL"), ("EPOCHD_MNIST_PATH", "/no/such/file", "/no/such/file")],
)
def test_a_setting_that_leads_nowhere_is_told_at_the_start(tmp_path: Path, name: str, value: str, said: str) -> None:
    assert said in fails(call("serve", "--port", "0", cwd=tmp_path, **{name: value}))


def test_a_variable_that_is_no_setting_is_pointed_out(tmp_path: Path) -> None:
    done = call("db", "upgrade", cwd=tmp_path, EPOCHD_SLOT="3")
    assert done.returncode == 0
    assert done.stderr == "epochd: EPOCHD_SLOT is no setting and does nothing; did you mean EPOCHD_SLOTS?\n"


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = fails(run("serve", "--no-worker", "--port", port, cwd=tmp_path))
    assert f"port {port}" in line
    assert "--port" in line


def test_data_fetch_takes_a_file_and_verifies_it(tmp_path: Path, mnist: datasets.Arrays) -> None:
    arrays = {name: getattr(mnist, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(tmp_path / "mine.npz", **arrays)
    done = run("data", "fetch", "mnist", "--path", "mine.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60,000 training and 10,000 test images, verified by SHA-256" in done.stdout
    assert (tmp_path / "epochd-data" / "datasets" / "mnist.npz").is_file()
    arrays["y_test"] = np.roll(arrays["y_test"], 1)
    np.savez(tmp_path / "wrong.npz", **arrays)
    line = fails(run("data", "fetch", "mnist", "--path", "wrong.npz", "--data-dir", "other", cwd=tmp_path))
    assert "SHA-256" in line


def test_the_demonstration_answers_the_articles_question(data_dir: Path) -> None:
    done = run("demo", "--data-dir", str(data_dir), cwd=data_dir)
    assert done.returncode == 0, done.stderr
    found = {
        (activation, int(depth)): float(accuracy)
        for activation, depth, accuracy in re.findall(r"(sigmoid|relu)\W+(\d)\W+(0\.\d{4}) \(", done.stdout)
    }
    assert len(found) == 6
    assert found["relu", 3] > 0.915
    assert found["sigmoid", 1] > found["sigmoid", 2] > found["sigmoid", 3]
    assert "The best model answers 7 with confidence 0.9" in done.stdout
    assert (data_dir / "epochd.sqlite3").is_file()


def test_db_check_lists_what_is_wrong_and_repairs_what_can_be(tmp_path: Path, tiny_onnx: bytes) -> None:
    settings = Settings(data_dir=tmp_path / "epochd-data")
    with open_ports(settings) as ports:
        made = succeed(ports.database, ports.blobs, tiny_onnx)
        orphan = ports.blobs.put(made.id, b"left behind")
    first = run("db", "check", "--repair", cwd=tmp_path)
    assert first.returncode == 0
    assert first.stdout.splitlines() == [
        f"orphaned: {orphan} of experiment {made.id}, removed",
        "2 files checked: 0 missing, 0 damaged, 1 orphaned and removed",
    ]
    assert made.model is not None
    keras = made.model.formats["keras"].sha256
    (settings.data_dir / "blobs" / made.id / keras).write_bytes(b"damage")
    second = run("db", "check", cwd=tmp_path)
    assert (second.returncode, second.stdout) == (
        1,
        f"damaged: {keras} of experiment {made.id}\n2 files checked: 0 missing, 1 damaged, 0 orphaned\n",
    )


def test_db_gc_removes_what_no_experiment_will_name(tmp_path: Path, tiny_onnx: bytes) -> None:
    settings = Settings(data_dir=tmp_path / "epochd-data")
    with open_ports(settings) as ports:
        made = succeed(ports.database, ports.blobs, tiny_onnx)
        garbage = ports.blobs.put(made.id, b"left behind")
        kept = {blob.key for blob in ports.blobs.list()} - {(made.id, garbage)}
    line = f"garbage: {garbage} of experiment {made.id}, 11 bytes"
    assert run("db", "gc", cwd=tmp_path).stdout == "0 files removed, 0 bytes\n"  # it is younger than an hour
    shown = run("db", "gc", "--older-than", "0h", "--dry-run", cwd=tmp_path)
    assert shown.stdout.splitlines() == [line, "1 file is garbage, 11 bytes"]
    told = json.loads(run("db", "gc", "--older-than", "0h", "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (told["bytes"], told["removed"], told["garbage"][0]["sha256"]) == (11, False, garbage)
    removed = run("db", "gc", "--older-than", "0h", cwd=tmp_path)
    assert removed.stdout.splitlines() == [line, "1 file removed, 11 bytes"]
    with open_ports(settings) as ports:
        assert {blob.key for blob in ports.blobs.list()} == kept
