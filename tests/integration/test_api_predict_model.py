"""POST /predict: which model answers, and what is told when none can."""

from pathlib import Path

import pytest

from service.domain.experiment import Spec
from service.store import queue
from tests.conftest import succeed
from tests.integration.conftest import Api, problem

IMAGE = {"image": [[0] * 28] * 14 + [[255] * 28] * 14}
NOBODY = "019304a2-7b1c-7d3e-8f00-0123456789ab"


def made(api: Api, onnx: bytes, accuracy: float = 0.9, **spec: str) -> str:
    wanted = Spec.model_validate({"activation": "relu", "depth": 1, "priority": 1000} | spec)
    return succeed(api.ports.database, api.ports.blobs, onnx, accuracy=accuracy, spec=wanted).id


def answering(api: Api, query: str = "") -> str:
    """The experiment whose model answers."""
    response = api.post(f"/predict{query}", json=IMAGE)
    assert response.status_code == 200, response.text
    return str(response.json()["experiment_id"])


def onnx_file(api: Api, experiment_id: str) -> Path:
    sha256 = api.get(f"/experiments/{experiment_id}").json()["model"]["formats"]["onnx"]["sha256"]
    return api.ports.settings.data_dir / "blobs" / experiment_id / str(sha256)


@pytest.mark.parametrize("query", ["", "?model=best", "?model=best-fashion_mnist"])
def test_before_there_is_a_model_it_is_told_how_to_make_one(api: Api, query: str) -> None:
    detail = problem(api.post(f"/predict{query}", json=IMAGE), 404, "model-not-found")["detail"]
    assert "POST /experiments" in detail
    body = detail[detail.index("{") : detail.index("}") + 1]
    response = api.post("/experiments", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 202
    assert response.json()["spec"]["dataset"] == ("fashion_mnist" if "fashion" in query else "mnist")


def test_the_best_model_answers_and_gives_way_to_a_better_one(api: Api, tiny_onnx: bytes) -> None:
    first = made(api, tiny_onnx, 0.5)
    assert answering(api) == answering(api, "?model=best") == first
    made(api, tiny_onnx, 0.4)
    better = made(api, tiny_onnx, 0.6)
    while answering(api) == first:
        pass
    assert answering(api) == answering(api, "?model=best") == better


def test_of_equals_the_older_answers(api: Api, tiny_onnx: bytes) -> None:
    first, *_ = [made(api, tiny_onnx, 0.5) for _ in range(3)]
    assert answering(api) == first


def test_each_dataset_has_a_best_model_and_its_own_labels(api: Api, tiny_onnx: bytes) -> None:
    digits = made(api, tiny_onnx, 0.5)
    clothes = made(api, tiny_onnx, 0.9, dataset="fashion_mnist")
    assert answering(api) == digits
    assert answering(api, "?model=best-fashion_mnist") == clothes
    prediction = api.post("/predict?model=best-fashion_mnist", json=IMAGE).json()["predictions"][0]
    assert prediction["label"] == {5: "Sandal", 6: "Shirt", 7: "Sneaker", 8: "Bag"}[prediction["digit"]]


def test_an_experiment_or_an_alias_can_be_asked(api: Api, tiny_onnx: bytes) -> None:
    best, other = made(api, tiny_onnx, 0.9), made(api, tiny_onnx, 0.1)
    assert answering(api, f"?experiment_id={other}") == answering(api, f"?experiment_id={other.upper()}") == other
    api.put("/models/mine", json={"experiment_id": other}).raise_for_status()
    assert answering(api, "?model=mine") == other
    api.put("/models/mine", json={"experiment_id": best}).raise_for_status()
    assert answering(api, "?model=mine") == best  # at once, where the alias was moved
    api.delete("/models/mine").raise_for_status()
    problem(api.post("/predict?model=mine", json=IMAGE), 404, "alias-not-found")


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("?model=nobodys", 404, "alias-not-found"),
        (f"?model={NOBODY}", 404, "experiment-not-found"),
        ("?model=best,nobodys", 404, "model-not-found"),
        ("?model=,best", 422, "invalid-request"),
        ("?model=best,", 422, "invalid-request"),
        (f"?model={','.join(['best'] * 17)}", 422, "invalid-request"),
        ("?model=Best", 404, "alias-not-found"),
        ("?model=best-cifar10", 404, "alias-not-found"),
        (f"?experiment_id={NOBODY}", 404, "experiment-not-found"),
        ("?experiment_id=best", 422, "invalid-request"),
        (f"?experiment_id={NOBODY}&model=best", 422, "invalid-request"),
        ("?model=", 422, "invalid-request"),
    ],
)
def test_a_model_that_is_not_there_is_told(empty_api: Api, query: str, status: int, kind: str) -> None:
    problem(empty_api.post(f"/predict{query}", json=IMAGE), status, kind)


def test_several_models_answer_to_the_same_picture_in_the_order_they_were_asked(api: Api, tiny_onnx: bytes) -> None:
    best, other = made(api, tiny_onnx, 0.9), made(api, tiny_onnx, 0.1)
    api.put("/models/mine", json={"experiment_id": other}).raise_for_status()
    answer = api.post(f"/predict?model=mine,best,{other}&explain=true", json=IMAGE).raise_for_status().json()
    assert [(one["model"], one["experiment_id"]) for one in answer["answers"]] == [
        ("mine", other),
        ("best", best),
        (other, other),
    ]
    alone = api.post("/predict?model=mine&explain=true", json=IMAGE).json()
    assert answer["answers"][0]["predictions"] == alone["predictions"]
    assert answer["range"] == alone["range"]


def test_an_experiment_without_a_model_says_why(api: Api) -> None:
    queued = api.post("/experiments", json={"activation": "relu", "depth": 1}).json()["id"]
    asked = f"/predict?experiment_id={queued}"
    assert "queued" in problem(api.post(asked, json=IMAGE), 409, "experiment-not-finished")["detail"]
    with api.ports.database.write() as session:
        claimed = queue.claim(session, owner="test", lease_seconds=60)
        assert claimed is not None
    assert "running" in problem(api.post(asked, json=IMAGE), 409, "experiment-not-finished")["detail"]
    with api.ports.database.write() as session:
        queue.fail(session, claimed, "training_diverged", "the loss became nan")
    assert "failed" in problem(api.post(asked, json=IMAGE), 404, "model-not-found")["detail"]

    cancelled = api.post(f"/experiments/{queued}/retry").json()["id"]
    api.post(f"/experiments/{cancelled}/cancel").raise_for_status()
    response = api.post(f"/predict?experiment_id={cancelled}", json=IMAGE)
    assert "cancelled" in problem(response, 404, "model-not-found")["detail"]


def test_a_damaged_file_gives_no_prediction(api: Api, tiny_onnx: bytes) -> None:
    identity = made(api, tiny_onnx)
    file = onnx_file(api, identity)
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"\0", b""):
        file.write_bytes(damaged)
        for query in ("", f"?experiment_id={identity}"):
            response = api.post(f"/predict{query}", json=IMAGE)
            problem(response, 503, "blob-corrupt")
            assert "retry-after" in response.headers
            assert str(file.parent) not in response.text
    file.write_bytes(whole)
    assert answering(api) == identity


def test_a_lost_file_gives_no_prediction(api: Api, tiny_onnx: bytes) -> None:
    identity = made(api, tiny_onnx)
    onnx_file(api, identity).unlink()
    for query in ("", f"?experiment_id={identity}"):
        problem(api.post(f"/predict{query}", json=IMAGE), 410, "blob-missing")


def test_a_deleted_experiment_answers_no_more(api: Api, tiny_onnx: bytes) -> None:
    best, second = made(api, tiny_onnx, 0.9), made(api, tiny_onnx, 0.8)
    assert answering(api) == answering(api, f"?experiment_id={best}") == best
    api.delete(f"/experiments/{best}").raise_for_status()
    problem(api.post(f"/predict?experiment_id={best}", json=IMAGE), 404, "experiment-not-found")
    while answering(api) == best:
        pass
    assert answering(api) == second
