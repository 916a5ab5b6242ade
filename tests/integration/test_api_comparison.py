"""GET /sweeps/{id}/comparison: which arm is better, over HTTP, on SQLite and PostgreSQL."""

import csv
import io
from typing import Any

import pytest
from scipy import stats

from service.domain.events import Trained
from service.store import queue
from service.store.queue import ModelFiles
from tests.integration.conftest import Api, problem

ACCURACIES = {
    ("relu", 1): [0.92, 0.93, 0.925, 0.931],
    ("sigmoid", 1): [0.897, 0.898, 0.899, 0.8975],
}


def swept(api: Api, **more: Any) -> str:
    body = {"grid": {"activation": ["sigmoid", "relu"]}, "base": {"depth": 1}, "seeds": 4} | more
    return str(api.post("/sweeps", json=body).raise_for_status().json()["id"])


def train(api: Api, count: int, *, fail: bool = False) -> None:
    """End the next queued experiments as a worker would, with made-up accuracies by arm and seed."""
    for _ in range(count):
        with api.ports.database.write() as session:
            claimed = queue.claim(session, owner="test", lease_seconds=60)
            assert claimed is not None
            if fail:
                queue.fail(session, claimed, "training_diverged", "the loss became nan in epoch 1")
                continue
            accuracy = ACCURACIES[claimed.spec.activation, claimed.spec.depth][claimed.spec.seed]
            trained = Trained(
                experiment_id=claimed.experiment_id, test_loss=1 - accuracy, test_accuracy=accuracy,
                evaluation_seconds=0.5, parameters=9, weights_sha256="c" * 64, keras=b"k", onnx=b"o",
            )  # fmt: skip
            queue.finish(session, claimed, trained, ModelFiles(keras_sha256="a" * 64, onnx_sha256="b" * 64))


def test_arms_are_ranked_with_intervals_and_paired_differences(api: Api) -> None:
    sweep = swept(api)
    train(api, 8)
    found = api.get(f"/sweeps/{sweep}/comparison").raise_for_status().json()
    assert (found["complete"], found["total"], found["finished"]) == (True, 8, 8)
    assert [(arm["label"], arm["rank"], arm["n"]) for arm in found["arms"]] == [("relu", 1, 4), ("sigmoid", 2, 4)]
    best = found["arms"][0]
    relu, sigmoid = ACCURACIES["relu", 1], ACCURACIES["sigmoid", 1]
    assert best["accuracy"]["mean"] == pytest.approx(sum(relu) / 4)
    low, high = stats.t.interval(0.95, 3, loc=sum(relu) / 4, scale=stats.sem(relu))
    assert (best["accuracy"]["low"], best["accuracy"]["high"]) == pytest.approx((low, high))
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"], pair["n"], pair["wins"]) == ("relu", "sigmoid", 4, 4)
    assert pair["p_value"] == pytest.approx(stats.ttest_rel(relu, sigmoid).pvalue)
    assert pair["significant"]
    assert "relu" in found["reading"]
    links = api.get(f"/sweeps/{sweep}").json()["links"]
    assert links["comparison"] == f"/sweeps/{sweep}/comparison"


def test_a_partial_result_says_so(api: Api) -> None:
    sweep = swept(api)
    assert api.get(f"/sweeps/{sweep}/comparison").json()["finished"] == 0
    train(api, 5)
    train(api, 1, fail=True)
    found = api.get(f"/sweeps/{sweep}/comparison").json()
    assert (found["complete"], found["finished"], found["pending"], found["diverged"]) == (False, 5, 2, 1)


def test_a_run_that_failed_and_was_repeated_counts_once(api: Api) -> None:
    sweep = swept(api)
    train(api, 7)
    train(api, 1, fail=True)
    (failed,) = api.get(f"/experiments?sweep_id={sweep}&status=failed").json()["data"]
    again = api.post(failed["links"]["retry"]).raise_for_status().json()
    assert again["sweep_id"] == sweep
    found = api.get(f"/sweeps/{sweep}/comparison").json()
    assert (found["complete"], found["finished"], found["pending"], found["failed"]) == (False, 7, 1, 0)
    train(api, 1)
    found = api.get(f"/sweeps/{sweep}/comparison").json()
    assert (found["complete"], found["total"], found["finished"], found["failed"]) == (True, 8, 8, 0)


def test_csv_has_a_row_for_each_arm(api: Api) -> None:
    sweep = swept(api)
    train(api, 8)
    answer = api.get(f"/sweeps/{sweep}/comparison", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["label"] for row in rows] == ["relu", "sigmoid"]
    assert float(rows[0]["accuracy_mean"]) == pytest.approx(sum(ACCURACIES["relu", 1]) / 4)


def test_a_reference_may_be_chosen_and_one_that_is_none_is_refused(sqlite_api: Api) -> None:
    sweep = swept(sqlite_api)
    train(sqlite_api, 8)
    found = sqlite_api.get(f"/sweeps/{sweep}/comparison?reference=sigmoid").json()
    assert (found["pairs_of"], found["reference"]) == ("with the reference", "sigmoid")
    refused = sqlite_api.get(f"/sweeps/{sweep}/comparison?reference=tanh")
    detail = problem(refused, 422, "unknown-arm")
    assert "'relu'" in detail["detail"]
    assert detail["errors"][0] | {"message": ""} == {"pointer": "/reference", "location": "query", "message": ""}


def test_a_sweep_of_one_arm_and_an_empty_one_are_no_error(sqlite_api: Api) -> None:
    sweep = swept(sqlite_api, grid={}, base={"activation": "relu", "depth": 1})
    train(sqlite_api, 4)
    found = sqlite_api.get(f"/sweeps/{sweep}/comparison").json()
    assert (len(found["arms"]), found["pairs"]) == (1, [])
    for one in sqlite_api.get(f"/experiments?sweep_id={sweep}").json()["data"]:
        sqlite_api.delete(f"/experiments/{one['id']}").raise_for_status()
    found = sqlite_api.get(f"/sweeps/{sweep}/comparison").raise_for_status().json()
    assert (found["arms"], found["total"]) == ([], 0)
    csv_ = sqlite_api.get(f"/sweeps/{sweep}/comparison", headers={"Accept": "text/csv"})
    assert csv_.status_code == 200


def test_there_is_no_comparison_of_nothing(empty_api: Api) -> None:
    path = "/sweeps/01a20f00-0000-7000-8000-000000000000/comparison"
    problem(empty_api.get(path), 404, "sweep-not-found")
    problem(empty_api.get("/sweeps/x/comparison"), 404, "sweep-not-found")
