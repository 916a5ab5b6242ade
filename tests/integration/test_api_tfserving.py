"""TensorFlow Serving's REST API."""

import base64
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.settings import Settings
from tests.conftest import succeed
from tests.integration.conftest import Api, problem, serving

MOST = 50
GREY = np.zeros((28, 28), dtype=np.uint8)
GREY[4:24, 12:16] = 200
OTHER = np.rot90(GREY).copy()
ROWS = GREY.tolist()
NOBODY = "00000000-0000-7000-8000-000000000000"


def picture() -> str:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: bytes) -> Iterator[Api]:
    """An API with one model, for requests that change nothing."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("tfserving"), max_images=MOST, max_body_bytes=2**20)
    with serving(settings) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        yield api


@pytest.fixture(scope="module")
def version(api: Api) -> str:
    """The experiment that `best` is."""
    found: str = api.get("/models/best").json()["experiment_id"]
    return found


@pytest.fixture(scope="module")
def expected(api: Api) -> list[list[float]]:
    """What `POST /predict` answers to the two pictures."""
    answer = api.post("/predict", json={"images": [ROWS, OTHER.tolist()]}).raise_for_status().json()
    return [one["probabilities"] for one in answer["predictions"]]


def predict(api: Api, body: Any, *, path: str = "best:predict", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.post(f"/v1/models/{path}", content=content, headers=headers)


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def test_a_model_is_available_as_an_alias_or_an_experiment(api: Api, version: str) -> None:
    available = {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("best", version, f"best/versions/{version}"):
        assert answer(api.get(f"/v1/models/{path}")) == {"model_version_status": [available]}


def test_the_signature_is_described(api: Api, version: str) -> None:
    found = answer(api.get("/v1/models/best/metadata"))
    assert found["model_spec"] == {"name": "best", "signature_name": "", "version": version}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    for tensors, name, size in ((signature["inputs"], "pixels", "784"), (signature["outputs"], "probabilities", "10")):
        assert tensors.keys() == {name}
        assert tensors[name]["dtype"] == "DT_FLOAT"
        assert [one["size"] for one in tensors[name]["tensor_shape"]["dim"]] == ["-1", size]
    assert answer(api.get(f"/v1/models/best/versions/{version}/metadata")) == found


def many(array: Any) -> list[Any]:
    found: list[Any] = np.asarray(array).tolist()
    return found


SHAPES: dict[str, list[Any]] = {
    "28x28": many([GREY, OTHER]),
    "784": many([GREY.ravel(), OTHER.ravel()]),
    "28x28x1": many([GREY[..., None], OTHER[..., None]]),
    "0..1": many([GREY / 255, OTHER / 255]),
    "named": [{"pixels": ROWS}, {"pixels": OTHER.ravel().tolist()}],
    "a picture beside numbers": [{"b64": picture()}, OTHER.tolist()],
    "a named picture": [{"pixels": {"b64": picture()}}, {"pixels": OTHER[..., None].tolist()}],
}


@pytest.mark.parametrize("signature", [{}, {"signature_name": "serving_default"}, {"signature_name": ""}])
@pytest.mark.parametrize("images", SHAPES.values(), ids=SHAPES.keys())
def test_images_are_predicted_by_rows_and_by_columns(
    api: Api, expected: list[list[float]], images: list[Any], signature: dict[str, str]
) -> None:
    found = answer(predict(api, {"instances": images} | signature))
    assert found.keys() == {"predictions"}
    np.testing.assert_allclose(found["predictions"], expected, atol=1e-6)
    for inputs in (images, {"pixels": images}):
        found = answer(predict(api, {"inputs": inputs} | signature))
        assert found.keys() == {"outputs"}
        np.testing.assert_allclose(found["outputs"], expected, atol=1e-6)


def test_a_version_may_be_named(api: Api, version: str, expected: list[list[float]]) -> None:
    for name in ("best", version):
        found = answer(predict(api, {"instances": [ROWS]}, path=f"{name}/versions/{version}:predict"))
        np.testing.assert_allclose(found["predictions"], expected[:1], atol=1e-6)


@pytest.mark.parametrize("media_type", [None, "application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_media_types_do_not_matter(api: Api, media_type: str | None) -> None:
    answer(predict(api, {"instances": [ROWS]}, **({} if media_type is None else {"content-type": media_type})))


def test_numbers_mean_what_the_query_says(api: Api) -> None:
    bright, dark = [[1.0] * 784], [[1 / 255] * 784]
    as_shares = answer(predict(api, {"instances": bright}))
    assert as_shares == answer(predict(api, {"instances": bright}, path="best:predict?range=0-1"))
    as_pixels = answer(predict(api, {"instances": bright}, path="best:predict?range=0-255"))
    np.testing.assert_allclose(
        as_pixels["predictions"], answer(predict(api, {"instances": dark}))["predictions"], atol=1e-6
    )
    problem(predict(api, {"instances": many([GREY])}, path="best:predict?range=0-1"), 422)
    for query in ("range=0-2", "range=0-1&range=0-1", "x=1"):
        (fault,) = problem(predict(api, {"instances": bright}, path=f"best:predict?{query}"), 422)["errors"]
        assert fault["location"] == "query"


def test_a_large_batch_is_predicted(api: Api) -> None:
    batch = [np.roll(GREY, shift, axis=1).tolist() for shift in range(MOST)]
    shares = (np.array(batch) / 255).tolist()
    found = [answer(predict(api, {"instances": images}))["predictions"] for images in (batch, shares)]
    assert np.shape(found) == (2, MOST, 10)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_a_request_may_be_compressed(api: Api, expected: list[list[float]]) -> None:
    packed = gzip.compress(json.dumps({"instances": [ROWS]}).encode())
    found = answer(predict(api, packed, **{"content-encoding": "gzip"}))
    np.testing.assert_allclose(found["predictions"], expected[:1], atol=1e-6)


BODIES: dict[str, tuple[Any, str]] = {
    "nothing": (b"", ""),
    "half": (b"{", ""),
    "a list": ([], ""),
    "neither": ({}, ""),
    "both": ({"instances": [ROWS], "inputs": [ROWS]}, ""),
    "more": ({"instances": [ROWS], "examples": []}, ""),
    "NaN": (b'{"instances": [NaN]}', ""),
    "another signature": ({"instances": [ROWS], "signature_name": "x"}, "/signature_name"),
    "a signature of another kind": ({"instances": [ROWS], "signature_name": []}, "/signature_name"),
    "no list": ({"instances": 7}, "/instances"),
    "an object of instances": ({"instances": {"pixels": [ROWS]}}, "/instances"),
    "no instances": ({"instances": []}, "/instances"),
    "another input": ({"inputs": {"image": [ROWS]}}, "/inputs"),
    "two inputs": ({"inputs": {"pixels": [ROWS], "x": 1}}, "/inputs"),
    "no inputs": ({"inputs": {"pixels": []}}, "/inputs/pixels"),
    "a number": ({"instances": [7]}, "/instances/0"),
    "numbers of one image": ({"instances": GREY.ravel().tolist()}, "/instances/0"),
    "rows of one image": ({"inputs": ROWS}, "/inputs/0"),
    "the second wrong": ({"instances": [ROWS, [1]]}, "/instances/1"),
    "the second too bright": ({"inputs": {"pixels": [ROWS, [256] * 784]}}, "/inputs/pixels/1"),
    "three channels": ({"instances": [np.zeros((28, 28, 3)).tolist()]}, "/instances/0"),
    "a channel here and three there": ({"instances": [[[[0]] * 28, [[0, 0, 0]] * 28, *ROWS[2:]]]}, "/instances/0"),
    "four deep": ({"instances": [[[[[0]]]]]}, "/instances/0"),
    "text": ({"instances": ["hello"]}, "/instances/0"),
    "null": ({"instances": [None]}, "/instances/0"),
    "true": ({"instances": [[True] * 784]}, "/instances"),
    "one true": ({"instances": [ROWS, [[True] + [0] * 27, *ROWS[1:]]]}, "/instances"),
    "another object": ({"instances": [{"x": 1}]}, "/instances/0"),
    "another input of an instance": ({"instances": [{"pixels": ROWS, "x": 1}]}, "/instances/0"),
    "base64 of another kind": ({"instances": [{"b64": 7}]}, "/instances/0"),
    "no base64": ({"instances": [ROWS, {"b64": "?"}]}, "/instances/1"),
    "no picture": ({"instances": [{"b64": "aGVsbG8="}]}, "/instances/0"),
}


@pytest.mark.parametrize(("body", "pointer"), BODIES.values(), ids=BODIES.keys())
def test_a_wrong_request_is_refused_where_it_is_wrong(api: Api, body: Any, pointer: str) -> None:
    found = problem(predict(api, body), 422)
    assert found["errors"][0]["pointer"] == pointer


def test_what_is_too_large_is_refused(api: Api) -> None:
    assert f"at most {MOST}" in problem(predict(api, {"instances": [[]] * (MOST + 1)}), 413)["detail"]
    problem(predict(api, bytes(2**20 + 1)), 413)


@pytest.mark.parametrize("name", ["nobody", NOBODY, "a%00b", "best:x", "x" * 65])
def test_an_unknown_model_is_not_found(api: Api, name: str) -> None:
    problem(api.get(f"/v1/models/{name}"), 404)
    problem(api.get(f"/v1/models/{name}/metadata"), 404)
    assert "there is no" in problem(predict(api, {"instances": [ROWS]}, path=f"{name}:predict"), 404)["error"]


@pytest.mark.parametrize("other", ["1", NOBODY])
def test_another_version_is_not_found(api: Api, other: str) -> None:
    problem(api.get(f"/v1/models/best/versions/{other}"), 404, "model-not-found")
    problem(api.get(f"/v1/models/best/versions/{other}/metadata"), 404, "model-not-found")
    problem(predict(api, {"instances": [ROWS]}, path=f"best/versions/{other}:predict"), 404, "model-not-found")


def test_only_predict_can_be_asked(api: Api) -> None:
    for verb in ("classify", "regress"):
        problem(predict(api, {"examples": []}, path=f"best:{verb}"), 405)


def test_a_status_answers_head(api: Api) -> None:
    assert api.head("/v1/models/best").status_code == 200
    assert api.head("/v1/models/nobody").status_code == 404


@pytest.mark.parametrize("path", ["best:predict", "best/versions/{version}:predict"])
def test_where_one_predicts_nothing_else_is_possible(api: Api, version: str, path: str) -> None:
    for method in ("GET", "OPTIONS"):
        refused = api.request(method, f"/v1/models/{path.format(version=version)}")
        problem(refused, 405)
        assert refused.headers["allow"] == "POST"
