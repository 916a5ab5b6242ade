"""/experiments over HTTP, on SQLite and PostgreSQL."""

from pathlib import Path

import pytest

from service.domain.experiment import ACTIVATIONS, Spec
from service.settings import Settings
from tests.conftest import succeed
from tests.integration.conftest import Api, problem, serving


def test_a_new_experiment_is_queued_with_its_defaults(api: Api) -> None:
    response = api.post("/experiments", json={"activation": "relu", "depth": 2})
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"/experiments/{body['id']}"
    assert response.headers["retry-after"] == "1"
    assert body["status"] == "queued"
    assert body["spec"]["units"] == 16
    assert body["spec"]["epochs"] == 10
    assert body["attempt"] == 0
    assert body["result"] is None
    assert api.get(response.headers["location"]).json() == body


def test_a_wrong_activation_is_refused_with_the_right_ones(api: Api) -> None:
    response = api.post("/experiments", json={"activation": "rleu", "depth": 1})
    assert response.status_code == 422
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["pointer"] == "/activation"
    assert all(activation in problem["detail"] for activation in ACTIVATIONS)
    assert problem["error"] == problem["detail"]
    assert api.get("/experiments").json()["data"] == []


@pytest.mark.parametrize("depth", [0, 65, 1.5, "1", None, True, [1]])
def test_a_wrong_depth_is_refused(api: Api, depth: object) -> None:
    response = api.post("/experiments", json={"activation": "relu", "depth": depth})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/depth"


def test_a_deletion_succeeds_while_the_files_cannot_be_reached(tmp_path: Path, tiny_onnx: bytes) -> None:
    with serving(Settings(data_dir=tmp_path)) as api:
        experiment = succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        (tmp_path / "blobs").rename(tmp_path / "away")
        (tmp_path / "blobs").write_text("in the way")
        assert api.delete(f"/experiments/{experiment.id}").status_code == 204
        problem(api.get(f"/experiments/{experiment.id}"), 404)


def test_training_that_costs_too_much_is_refused_with_what_would_cost_less(tmp_path: Path) -> None:
    spec = {"activation": "relu", "depth": 1, "epochs": 1}
    cost = Spec.model_validate(spec).training_cost
    with serving(Settings(data_dir=tmp_path, max_training_cost=cost, max_sweep_cost=3 * cost)) as api:
        first = api.post("/experiments", json=spec)
        assert first.status_code == 202
        found = problem(api.post("/experiments", json=spec | {"epochs": 2}), 422, "training-too-costly")
        assert f"would cost {2 * cost:,} parameter-steps, and at most {cost:,} are allowed" in found["detail"]
        assert "Fewer epochs" in found["detail"]
        assert api.post("/sweeps?dry_run=true", json={"base": spec, "seeds": 3}).json()["training_cost"] == 3 * cost
        for sweep in ({"base": spec, "seeds": 4}, {"base": spec | {"epochs": 2}}):
            problem(api.post("/sweeps", json=sweep), 422, "training-too-costly")
        assert api.post("/sweeps", json={"base": spec, "seeds": 3}).status_code == 202
        assert len(api.get("/experiments").json()["data"]) == 4
    with serving(Settings(data_dir=tmp_path, max_training_cost=cost - 1)) as api:
        api.post(f"{first.headers['location']}/cancel").raise_for_status()
        problem(api.post(f"{first.headers['location']}/retry"), 422, "training-too-costly")


def test_a_full_queue_refuses_more_until_there_is_room_and_forgets_nothing(migrated_url: str, tmp_path: Path) -> None:
    spec = {"activation": "relu", "depth": 1}
    with serving(Settings(data_dir=tmp_path, database_url=migrated_url, max_queued=2)) as api:
        first = api.post("/experiments", json=spec, headers={"Idempotency-Key": "first"})
        second = api.post("/experiments", json=spec)
        assert (first.status_code, second.status_code) == (202, 202)
        for _ in range(2):
            refused = api.post("/experiments", json=spec, headers={"Idempotency-Key": "third"})
            assert "2 experiments wait already" in problem(refused, 429, "queue-full")["detail"]
            assert int(refused.headers["retry-after"]) > 0
        again = api.post("/experiments", json=spec, headers={"Idempotency-Key": "first"})
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])

        api.post(f"{second.headers['location']}/cancel").raise_for_status()
        third = api.post("/experiments", json=spec, headers={"Idempotency-Key": "third"})
        assert third.status_code == 202
        problem(api.post(f"{second.headers['location']}/retry"), 429, "queue-full")
        problem(api.post("/experiments/01a20f00-0000-7000-8000-000000000000/retry"), 404)
        assert len(api.get("/experiments").json()["data"]) == 3
