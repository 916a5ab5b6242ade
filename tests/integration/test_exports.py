"""`epochd export`: what the API has arrives whole in CSV, Parquet, TensorBoard and MLflow, read by their own code."""

import builtins
import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from service import exports
from service.client import ApiError, Client, ExperimentHandle, Sync
from service.domain.experiment import EpochMetrics, Experiment, Spec, Status
from service.exports import ExportError, Order, parquet
from service.exports.selection import Selection
from service.exports.tables import EXPERIMENT_COLUMNS
from service.store import experiments, queue
from tests.conftest import succeed
from tests.integration.conftest import Api, claim, finish, record

# MLflow's tables, with the newest SQLAlchemy.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")]

NAN = float("nan")
EPOCHD = Path(sys.executable).with_name("epochd")


@pytest.fixture
def api(sqlite_api: Api) -> Api:
    return sqlite_api


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(str(api.base_url)) as client:
        yield client


@pytest.fixture
def made(api: Api, tiny_onnx: bytes) -> dict[str, str]:
    """One experiment of each fate, the oldest first: their ids."""
    good = claim(api, seed=7, name='a "name", with a comma', tags=["deep", "a;b, c"])
    for number in (1, 2, 3):
        record(api, good, number)
    finish(api, good, tiny_onnx)
    bad = claim(api, activation="sigmoid", depth=3, tags=["deep"])
    record(api, bad, 1)
    record(
        api,
        bad,
        2,
        loss=NAN,
        gradient_norms=(1.0, NAN, 2.0, 3.0),
        gradient_ratio=None,
        gradients="exploding",
        hidden=(),
    )
    with api.ports.database.write() as session:
        queue.fail(session, bad, "training_diverged", "the loss became NaN\nin epoch 3")
    with api.ports.database.write() as session:
        cancelled = experiments.create(session, Spec(activation="tanh", depth=2)).id
        experiments.cancel(session, cancelled)
        waiting = experiments.create(session, Spec(activation="tanh", depth=2, seed=1)).id
    return {"good": good.experiment_id, "bad": bad.experiment_id, "cancelled": cancelled, "waiting": waiting}


def export(client: Client, to: exports.Tool, **order: Any) -> str:
    return exports.run(client, Order(to=to, **order), Console(file=io.StringIO()))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# CSV


def test_csv_has_every_experiment_and_every_epoch(
    api: Api, client: Client, made: dict[str, str], tmp_path: Path
) -> None:
    said = export(client, "csv", output=tmp_path / "out")
    assert said == (f"experiments: 4 in {tmp_path}/out/experiments.csv; epochs: 5 in {tmp_path}/out/epochs.csv")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["epochs.csv", "experiments.csv"]
    rows = read_csv(tmp_path / "out" / "experiments.csv")
    assert [row["id"] for row in rows] == list(made.values())
    for row in rows:
        told = api.get(f"/experiments/{row['id']}").json()
        for field, value in told["spec"].items():
            assert row[field] == ("" if value is None else json.dumps(value) if field == "tags" else str(value))
        assert row["status"] == told["status"]
        assert moment(row["created_at"]) == moment(told["created_at"])
        assert (row["finished_at"] == "") == (told["finished_at"] is None)
    good, bad, cancelled, waiting = rows
    assert (good["test_loss"], good["test_accuracy"], good["computation_seconds"]) == ("0.5", "0.75", "5.0")
    assert good["weights_sha256"] == "a" * 64
    assert json.loads(good["tags"]) == ["deep", "a;b, c"]
    assert good["created_at"].endswith("Z")
    assert (bad["error_code"], bad["error_message"]) == ("training_diverged", "the loss became NaN\nin epoch 3")
    assert (bad["test_loss"], bad["weights_sha256"], bad["computation_seconds"]) == ("", "", "3.0")
    assert (cancelled["status"], waiting["status"], waiting["started_at"]) == ("cancelled", "queued", "")


def test_csv_epochs_have_a_column_for_each_layer_of_the_deepest(
    client: Client, made: dict[str, str], tmp_path: Path
) -> None:
    export(client, "csv", output=tmp_path)
    rows = read_csv(tmp_path / "epochs.csv")
    assert [(row["experiment_id"], row["epoch"]) for row in rows] == [
        *((made["good"], str(number)) for number in (1, 2, 3)),
        *((made["bad"], str(number)) for number in (1, 2)),
    ]
    assert [name for name in rows[0] if name.startswith("gradient")] == [
        *(f"gradient_norm_{layer}" for layer in (1, 2, 3, 4)), "gradient_ratio", "gradients",
    ]  # fmt: skip
    good, bad = rows[0], rows[4]
    assert float(good["val_loss"]) == 0.1 + 0.2
    assert [good[f"gradient_norm_{layer}"] for layer in (1, 2, 3, 4)] == ["1.0", "2.0", "", ""]
    assert (good["gradient_ratio"], good["gradients"]) == ("0.5", "healthy")
    assert (good["hidden_1_standard_deviation"], good["hidden_1_saturated"], good["hidden_2_mean"]) == ("1.0", "", "")
    assert (rows[3]["hidden_3_standard_deviation"], rows[3]["hidden_3_dead"]) == ("3.0", "0.125")
    assert (bad["loss"], bad["gradient_norm_2"], bad["gradient_ratio"], bad["gradients"]) == ("", "", "", "exploding")
    assert (bad["gradient_norm_4"], bad["hidden_1_mean"]) == ("3.0", "")


def test_no_field_of_the_domain_is_left_out() -> None:
    """Whoever adds a field to an experiment or an epoch is told here that exports lack it."""
    epoch = set(EpochMetrics.model_fields) - {"hidden", "gradient_norms"}
    assert epoch <= set(parquet.EPOCHS.names)
    assert {"hidden", "gradient_norms"} <= set(parquet.EPOCHS.names)
    split = {"spec", "progress", "result", "model", "error"}
    assert set(Experiment.model_fields) - split <= set(EXPERIMENT_COLUMNS)
    assert set(Spec.model_fields) <= set(EXPERIMENT_COLUMNS)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"statuses": (Status.SUCCEEDED,)}, ["good"]),
        ({"statuses": (Status.SUCCEEDED, Status.QUEUED)}, ["good", "waiting"]),
        ({"tags": ("deep",)}, ["good", "bad"]),
    ],
)
def test_filters_choose(
    client: Client, made: dict[str, str], tmp_path: Path, filters: dict[str, Any], names: list[str]
) -> None:
    export(client, "csv", output=tmp_path, **filters)
    assert [row["id"] for row in read_csv(tmp_path / "experiments.csv")] == [made[name] for name in names]


def test_ids_choose_each_once_in_their_order(client: Client, made: dict[str, str], tmp_path: Path) -> None:
    wanted = (made["waiting"], made["good"], made["waiting"])
    export(client, "csv", output=tmp_path, ids=wanted)
    assert [row["id"] for row in read_csv(tmp_path / "experiments.csv")] == [made["waiting"], made["good"]]


def test_a_sweep_is_chosen_by_its_id(api: Api, client: Client, made: dict[str, str], tmp_path: Path) -> None:
    sweep = api.post("/sweeps", json={"grid": {"activation": ["relu", "elu"], "depth": [1, 2]}, "seeds": 60}).json()
    said = export(client, "csv", output=tmp_path, sweep_id=sweep["id"])
    rows = read_csv(tmp_path / "experiments.csv")
    assert len(rows) == 240, said  # more than a page
    assert {row["sweep_id"] for row in rows} == {sweep["id"]}
    assert len({row["id"] for row in rows}) == 240


def test_models_go_along(client: Client, made: dict[str, str], tiny_onnx: bytes, tmp_path: Path) -> None:
    said = export(client, "csv", output=tmp_path, models=True)
    assert said.endswith(f"2 model files in {tmp_path}/models")
    files = {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()}
    assert files == {f"{made['good']}.keras": b"keras", f"{made['good']}.onnx": tiny_onnx}


def test_a_model_that_is_gone_stops_the_export_and_names_its_experiment(
    api: Api, client: Client, made: dict[str, str], tmp_path: Path
) -> None:
    model = client.get_experiment(made["good"]).model
    assert model is not None
    api.ports.blobs.delete(made["good"], model.formats["onnx"].sha256)
    with pytest.raises(ApiError, match=f"experiment {made['good']}: .*file is gone"):
        export(client, "csv", output=tmp_path / "out", models=True)
    assert not (tmp_path / "out").exists()


# A folder


def test_what_is_there_is_replaced_by_force_only(client: Client, made: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    export(client, "csv", output=tmp_path, ids=(made["good"],))
    before = (tmp_path / "epochs.csv").read_bytes()
    with pytest.raises(ExportError, match=r"experiments\.csv is there already: --force"):
        export(client, "csv", output=tmp_path)
    assert (tmp_path / "epochs.csv").read_bytes() == before
    export(client, "csv", output=tmp_path, force=True)
    assert len(read_csv(tmp_path / "experiments.csv")) == 4
    assert sorted(path.name for path in tmp_path.glob("*") if path.name != "data") == [
        "epochs.csv", "experiments.csv", "notes.txt",
    ]  # fmt: skip


@pytest.mark.parametrize("to", ["csv", "parquet", "tensorboard"])
@pytest.mark.parametrize("end", [KeyboardInterrupt, ApiError("no answer")])
def test_an_export_that_is_interrupted_leaves_nothing(
    client: Client, made: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: exports.Tool, end: Any
) -> None:
    seen = []
    real = client.metrics

    def metrics(experiment_id: str) -> Any:
        seen.append(experiment_id)
        if len(seen) == 3:
            raise end
        return real(experiment_id)

    monkeypatch.setattr(client, "metrics", metrics)
    (tmp_path / "there").mkdir()
    with pytest.raises(end if isinstance(end, type) else type(end)):
        export(client, to, output=tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    seen.clear()
    with pytest.raises(end if isinstance(end, type) else type(end)):
        export(client, to, output=tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_an_experiment_that_is_deleted_meanwhile_is_left_out_and_told(
    api: Api, client: Client, made: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = client.metrics

    def metrics(experiment_id: str) -> Any:
        if experiment_id == made["bad"]:
            api.delete(f"/experiments/{experiment_id}").raise_for_status()
        return real(experiment_id)

    monkeypatch.setattr(client, "metrics", metrics)
    said = export(client, "csv", output=tmp_path)
    assert "experiments: 3 in" in said
    assert said.endswith("; deleted meanwhile: 1")
    assert made["bad"] not in (tmp_path / "experiments.csv").read_text()


def test_what_ends_while_it_is_exported_has_all_its_epochs(
    api: Api, client: Client, tiny_onnx: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = claim(api)
    record(api, running, 1)
    listed = client.experiments

    def listing(**filters: Any) -> Iterator[ExperimentHandle[Sync]]:
        yield from listed(**filters)
        record(api, running, 2)
        finish(api, running, tiny_onnx)

    monkeypatch.setattr(client, "experiments", listing)
    export(client, "csv", output=tmp_path)
    assert read_csv(tmp_path / "experiments.csv")[0]["status"] == "succeeded"
    assert len(read_csv(tmp_path / "epochs.csv")) == 2


@pytest.mark.parametrize("bad", ["/proc/nowhere", "a-file", "a-file/below"])
def test_a_folder_that_cannot_be(client: Client, made: dict[str, str], tmp_path: Path, bad: str) -> None:
    (tmp_path / "a-file").write_text("")
    with pytest.raises(ExportError, match=bad.split("/")[-1]) as raised:
        export(client, "csv", output=tmp_path / bad)
    assert "\n" not in str(raised.value)


# Parquet


def test_parquet_keeps_types(api: Api, client: Client, made: dict[str, str], tmp_path: Path) -> None:
    export(client, "parquet", output=tmp_path)
    table = pq.read_table(tmp_path / "experiments.parquet")
    assert table.schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("tags").type == pa.list_(pa.string())
    assert table.schema.field("learning_rate").type == pa.float64()
    assert table.schema.field("depth").type == pa.int64()
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == list(made.values())
    told = api.get(f"/experiments/{made['good']}").json()
    assert rows[0]["created_at"] == moment(told["created_at"])
    assert {field: rows[0][field] for field in told["spec"]} == told["spec"]
    assert rows[3]["started_at"] is None
    assert rows[1]["test_loss"] is None


def test_parquet_epochs_are_what_the_api_tells(api: Api, client: Client, made: dict[str, str], tmp_path: Path) -> None:
    export(client, "parquet", output=tmp_path)
    rows = pq.read_table(tmp_path / "epochs.parquet").to_pylist()
    expected = [
        {"experiment_id": made[name]} | epoch
        for name in ("good", "bad")
        for epoch in api.get(f"/experiments/{made[name]}/metrics").json()["epochs"]
    ]
    assert rows == expected


def test_parquet_is_written_in_row_groups(
    client: Client, made: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 2)
    export(client, "parquet", output=tmp_path)
    file = pq.ParquetFile(tmp_path / "epochs.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [2, 2, 1]


def test_parquet_without_an_epoch_is_a_table_all_the_same(client: Client, made: dict[str, str], tmp_path: Path) -> None:
    export(client, "parquet", output=tmp_path, ids=(made["waiting"],))
    assert pq.read_table(tmp_path / "epochs.parquet").num_rows == 0


# TensorBoard


def accumulated(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_reads_a_run_for_each_experiment(
    api: Api, client: Client, made: dict[str, str], tmp_path: Path
) -> None:
    said = export(client, "tensorboard", output=tmp_path / "runs")
    assert said == f"runs: 4 in {tmp_path}/runs; see them with tensorboard --logdir {tmp_path}/runs"
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        f"relu-1-7-{made['good'][-12:]}",
        f"sigmoid-3-0-{made['bad'][-12:]}",
        f"tanh-2-0-{made['cancelled'][-12:]}",
        f"tanh-2-1-{made['waiting'][-12:]}",
    }
    run = accumulated(tmp_path / "runs" / f"relu-1-7-{made['good'][-12:]}")
    losses = run.Scalars("loss")
    assert [(one.step, one.value) for one in losses] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    started = moment(api.get(f"/experiments/{made['good']}").json()["started_at"]).timestamp()
    assert [one.wall_time for one in losses] == pytest.approx([started + 1.5, started + 3.0, started + 4.5], abs=1e-3)
    assert run.Scalars("gradient_norm/2")[0].value == 2.0
    assert run.Scalars("hidden/1/dead")[2].value == 0.125
    assert [(one.step, one.value) for one in run.Scalars("test_accuracy")] == [(3, 0.75)]
    assert set(run.Tags()["scalars"]) == {
        "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "gradient_ratio", "gradient_norm/1",
        "gradient_norm/2", "hidden/1/mean", "hidden/1/standard_deviation", "hidden/1/dead", "test_loss",
        "test_accuracy",
    }  # fmt: skip


def test_tensorboard_draws_what_was_not_finite_as_nan(client: Client, made: dict[str, str], tmp_path: Path) -> None:
    export(client, "tensorboard", output=tmp_path / "runs", ids=(made["bad"],))
    run = accumulated(tmp_path / "runs" / f"sigmoid-3-0-{made['bad'][-12:]}")
    assert [math.isnan(one.value) for one in run.Scalars("loss")] == [False, True]
    assert [math.isnan(one.value) for one in run.Scalars("gradient_norm/2")] == [False, True]
    assert len(run.Scalars("gradient_ratio")) == 1


def test_tensorboard_knows_the_hyperparameters(client: Client, made: dict[str, str], tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import api_pb2, metadata

    export(client, "tensorboard", output=tmp_path / "runs", ids=(made["good"],))
    run = accumulated(tmp_path / "runs" / f"relu-1-7-{made['good'][-12:]}")
    content = run.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    assert start.group_name == made["good"]
    assert start.hparams["activation"].string_value == "relu"
    assert (start.hparams["seed"].number_value, start.hparams["learning_rate"].number_value) == (7, 0.001)
    content = run.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
    assert metadata.parse_session_end_info_plugin_data(content).status == api_pb2.STATUS_SUCCESS


def test_tensorboard_again_by_force_draws_nothing_twice(client: Client, made: dict[str, str], tmp_path: Path) -> None:
    export(client, "tensorboard", output=tmp_path, ids=(made["good"],))
    with pytest.raises(ExportError, match="there already"):
        export(client, "tensorboard", output=tmp_path)
    export(client, "tensorboard", output=tmp_path, force=True)
    run = accumulated(tmp_path / f"relu-1-7-{made['good'][-12:]}")
    assert len(run.Scalars("loss")) == 3


def test_tensorboard_is_written_without_tensorflow() -> None:
    program = (
        "import sys, service.exports.tensorboard_runs as t; t.hparams_pb({}); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


# MLflow


@pytest.fixture
def tracking_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    return f"sqlite:///{tmp_path}/mlflow.db"


def runs(tracking_uri: str, name: str = "epochd") -> dict[str, Any]:
    from mlflow import MlflowClient

    mlflow = MlflowClient(tracking_uri)
    experiment = mlflow.get_experiment_by_name(name)
    assert experiment is not None
    found = mlflow.search_runs([experiment.experiment_id])
    by_id = {run.data.tags["epochd.id"]: run for run in found}
    assert len(by_id) == len(found)
    return by_id


def history(tracking_uri: str, run: Any, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [(one.step, one.value) for one in MlflowClient(tracking_uri).get_metric_history(run.info.run_id, metric)]


def test_mlflow_has_a_run_for_each_experiment(
    api: Api, client: Client, made: dict[str, str], tracking_uri: str
) -> None:
    said = export(client, "mlflow", tracking_uri=tracking_uri)
    assert said == f"runs: 4 in the MLflow experiment epochd at {tracking_uri}"
    found = runs(tracking_uri)
    assert set(found) == set(made.values())
    assert {name: found[one].info.status for name, one in made.items()} == {
        "good": "FINISHED", "bad": "FAILED", "cancelled": "KILLED", "waiting": "SCHEDULED",
    }  # fmt: skip
    told = api.get(f"/experiments/{made['good']}").json()
    good = found[made["good"]]
    assert good.info.run_name == 'a "name", with a comma'
    assert good.info.start_time == pytest.approx(moment(told["started_at"]).timestamp() * 1000, abs=1)
    assert good.info.end_time == pytest.approx(moment(told["finished_at"]).timestamp() * 1000, abs=1)
    assert good.data.params == {field: str(value) for field, value in told["spec"].items() if field != "tags"}
    assert good.data.tags["epochd.tags"] == '["deep", "a;b, c"]'
    assert good.data.tags["epochd.status"] == "succeeded"
    assert good.data.tags["epochd.weights_sha256"] == "a" * 64
    assert history(tracking_uri, good, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert history(tracking_uri, good, "gradient_norm_2") == [(1, 2.0), (2, 2.0), (3, 2.0)]
    assert history(tracking_uri, good, "test_accuracy") == [(3, 0.75)]
    assert good.data.metrics["hidden_1_dead"] == 0.125
    bad = found[made["bad"]]
    assert bad.data.tags["epochd.error_code"] == "training_diverged"
    assert bad.data.tags["epochd.gradients"] == "exploding"
    (first, second) = history(tracking_uri, bad, "loss")
    assert first == (1, 1.0)
    assert second[0] == 2
    assert math.isnan(second[1])
    assert found[made["waiting"]].info.end_time is None


def test_mlflow_twice_is_the_same_as_once(client: Client, made: dict[str, str], tracking_uri: str) -> None:
    export(client, "mlflow", tracking_uri=tracking_uri, ids=(made["good"],), mlflow_experiment="mine")
    before = runs(tracking_uri, "mine")[made["good"]]
    said = export(client, "mlflow", tracking_uri=tracking_uri, mlflow_experiment="mine")
    assert said == f"runs: 4 in the MLflow experiment mine at {tracking_uri}, 1 of them there before"
    after = runs(tracking_uri, "mine")
    assert len(after) == 4
    assert after[made["good"]].to_dictionary() == before.to_dictionary()
    assert len(history(tracking_uri, before, "loss")) == 3


def test_mlflow_brings_a_run_up_to_date(api: Api, client: Client, tiny_onnx: bytes, tracking_uri: str) -> None:
    running = claim(api)
    record(api, running, 1)
    export(client, "mlflow", tracking_uri=tracking_uri)
    (run,) = runs(tracking_uri).values()
    assert (run.info.status, run.data.tags["epochd.status"]) == ("RUNNING", "running")
    record(api, running, 2)
    finish(api, running, tiny_onnx)
    export(client, "mlflow", tracking_uri=tracking_uri)
    (run,) = runs(tracking_uri).values()
    assert (run.info.status, run.data.tags["epochd.status"]) == ("FINISHED", "succeeded")
    assert history(tracking_uri, run, "loss") == [(1, 1.0), (2, 0.5)]
    assert history(tracking_uri, run, "test_loss") == [(2, 0.5)]


def test_mlflow_goes_on_after_an_interruption_in_the_middle_of_a_run(
    api: Api, client: Client, tiny_onnx: bytes, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    deep = claim(api, depth=64, epochs=20)
    for number in range(1, 11):
        record(api, deep, number)
    finish(api, deep, tiny_onnx)
    real, calls = MlflowClient.log_batch, []

    def log_batch(*arguments: Any, **options: Any) -> Any:
        calls.append(len(options.get("metrics", ())))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", log_batch)
        with pytest.raises(KeyboardInterrupt):
            export(client, "mlflow", tracking_uri=tracking_uri)
    assert max(calls) <= 1000
    (run,) = runs(tracking_uri).values()
    assert run.info.status == "RUNNING"
    assert 0 < len(history(tracking_uri, run, "loss")) < 10
    export(client, "mlflow", tracking_uri=tracking_uri)
    (run,) = runs(tracking_uri).values()
    assert run.info.status == "FINISHED"
    for metric in ("loss", "gradient_norm_65", "hidden_64_dead"):
        assert [step for step, _ in history(tracking_uri, run, metric)] == list(range(1, 11))


def test_mlflow_takes_models_also_later(
    client: Client, made: dict[str, str], tracking_uri: str, tiny_onnx: bytes, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    export(client, "mlflow", tracking_uri=tracking_uri)
    for _ in range(2):
        export(client, "mlflow", tracking_uri=tracking_uri, models=True)
    mlflow, run = MlflowClient(tracking_uri), runs(tracking_uri)[made["good"]]
    assert {file.path for file in mlflow.list_artifacts(run.info.run_id, "model")} == {
        "model/model.keras", "model/model.onnx",
    }  # fmt: skip
    path = mlflow.download_artifacts(run.info.run_id, "model/model.onnx", str(tmp_path))
    assert Path(path).read_bytes() == tiny_onnx


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gopher://nowhere", "MLflow: .*gopher"),
        ("sqlite:////proc/nowhere/mlflow.db", "/proc/nowhere"),
        ("mysql://u:hush@127.0.0.1:1/x", "MLflow needs MySQLdb"),
        ("mlruns", "MLflow: .*sqlite:///"),  # MLflow's old folders, which it does not write any more
    ],
)
def test_mlflow_that_cannot_be_reached_is_told_in_one_line(
    client: Client, made: dict[str, str], tracking_uri: str, uri: str, said: str
) -> None:
    with pytest.raises(ExportError, match=said) as raised:
        export(client, "mlflow", tracking_uri=uri)
    assert "\n" not in str(raised.value)
    assert "hush" not in str(raised.value)


# What cannot be done


@pytest.mark.parametrize(
    ("to", "module"), [("parquet", "pyarrow"), ("tensorboard", "tensorboard"), ("mlflow", "mlflow")]
)
def test_an_extra_that_is_not_installed_is_named(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: exports.Tool, module: str
) -> None:
    for loaded in list(sys.modules):
        if loaded.startswith("service.exports."):
            monkeypatch.delitem(sys.modules, loaded)
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(ExportError, match=rf"{module}, which is not installed: pip install 'epochd\[{to}\]'"):
        export(client, to, output=None if to == "mlflow" else tmp_path)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"to": "csv"}, "--output"),
        ({"to": "mlflow", "output": Path("x")}, "--tracking-uri"),
        ({"to": "csv", "output": Path("x"), "tracking_uri": "sqlite://"}, "--to mlflow"),
        ({"to": "tensorboard", "output": Path("x"), "models": True}, "no model files"),
        ({"to": "csv", "output": Path("x"), "ids": ("a",), "tags": ("b",)}, "not by both"),
        ({"to": "csv", "output": Path("x"), "tags": ("no such tag",)}, "no experiment matches"),
        ({"to": "csv", "output": Path("x"), "ids": ("no-such",)}, "experiment no-such"),
        ({"to": "csv", "output": Path("x"), "sweep_id": "no-such"}, "is no id of a sweep"),
        ({"to": "csv", "output": Path("x"), "sweep_id": ""}, "is no id of a sweep"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ExportError, ApiError), match=said):
        export(client, **order)
    assert not (tmp_path / "x").exists()


def test_a_selection_holds_many_outside_memory(api: Api, tiny_onnx: bytes) -> None:
    one = succeed(api.ports.database, api.ports.blobs, tiny_onnx)
    with Selection() as selection:
        for _ in range(2000):
            selection.add(one)
        assert len(selection) == 2000
        assert list(selection)[-1] == one


# The command


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EPOCHD, "export", *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_says_what_it_wrote(api: Api, made: dict[str, str], tmp_path: Path) -> None:
    url = str(api.base_url)
    done = command("--to", "csv", "-o", "out", "--url", url, "--status", "failed", "--status", "queued", cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout == "experiments: 2 in out/experiments.csv; epochs: 2 in out/epochs.csv\n"
    assert done.returncode == 0
    done = command("--to", "mlflow", "--url", url, "--tracking-uri", "sqlite:///m.db", made["good"], cwd=tmp_path)
    assert re.fullmatch(r"runs: 1 in the MLflow experiment epochd at sqlite:///\S*m\.db\n", done.stdout), done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
        (["--url", "localhost"], "begins with http://"),
        (["--url", "http://x:port"], "no address"),
    ],
)
def test_the_command_without_a_service_fails_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = command("--to", "csv", "--output", "out", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    *before, line = done.stderr.splitlines()
    assert before in ([], ["epochd: no answer from http://127.0.0.1:1 yet; trying again"])
    assert line.startswith("epochd: ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_the_command_has_help_with_an_example(tmp_path: Path) -> None:
    done = command("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example: epochd export" in done.stdout
