"""/experiments over HTTP, on SQLite and PostgreSQL."""

import pytest

from service.domain.experiment import ACTIVATIONS
from tests.integration.conftest import Api


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
