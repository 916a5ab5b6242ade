"""The Open Inference Protocol, by Triton's own client and by hand."""

import asyncio
import gzip
import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from service.datasets import LABELS
from service.settings import Settings
from tests.conftest import succeed
from tests.integration.conftest import Api, out_of_reach, problem, serving

MOST = 50
GREY = np.zeros((28, 28), dtype=np.uint8)
GREY[4:24, 12:16] = 200
GREY[0, 0] = 1
OTHER = np.rot90(GREY).copy()
NOBODY = "00000000-0000-7000-8000-000000000000"
HEADER = "Inference-Header-Content-Length"

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: bytes) -> Iterator[Api]:
    """An API with one model, for requests that change nothing."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("inference"), max_images=MOST, max_body_bytes=2**20)
    with serving(settings) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        yield api


@pytest.fixture(scope="module")
def version(api: Api) -> str:
    """The experiment that `best` is."""
    found: str = api.get("/models/best").json()["experiment_id"]
    return found


@pytest.fixture
def client(api: Api) -> Iterator[Any]:
    with triton.InferenceServerClient(f"{api.base_url.host}:{api.base_url.port}") as client:
        yield client


def expected(api: Api, pictures: list[Any], **query: Any) -> Floats:
    """What `POST /predict` answers."""
    body = {"images": [np.asarray(picture).tolist() for picture in pictures]}
    answer = api.post("/predict", json=body, params=query).raise_for_status().json()
    return np.array([one["probabilities"] for one in answer["predictions"]], dtype=np.float32)


def tensor(array: npt.NDArray[Any], datatype: str, *, binary: bool = True) -> Any:
    found = triton.InferInput("pixels", list(array.shape), datatype)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def wanted(name: str, **options: Any) -> Any:
    return triton.InferRequestedOutput(name, **options)


# Triton's client.


def test_the_server_is_live_ready_and_says_what_it_speaks(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    found = client.get_server_metadata()
    assert found["name"] == "epochd"
    assert found["version"]
    assert {"binary_tensor_data", "classification"} <= set(found["extensions"])


def test_a_model_is_an_alias_or_an_experiment(client: Any, version: str) -> None:
    for name in ("best", version, version.upper()):
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, version)
        found = client.get_model_metadata(name)
        assert (found["name"], found["versions"], found["platform"]) == (name, [version], "onnxruntime_onnx")
        assert client.get_model_metadata(name, version) == found
    (pixels,) = found["inputs"]
    assert (pixels["name"], pixels["datatype"], pixels["shape"]) == ("pixels", "FP32", [-1, 784])
    outputs = [(one["name"], one["datatype"], one["shape"]) for one in found["outputs"]]
    assert outputs == [("probabilities", "FP32", [-1, 10]), ("digit", "INT64", [-1])]


def test_the_index_lists_aliases(client: Any, version: str) -> None:
    assert client.get_model_repository_index() == [{"name": "best", "version": version, "state": "READY", "reason": ""}]


@pytest.mark.parametrize("name", ["nobody", NOBODY, "a b", "a\0b", "x" * 65, "é"])
def test_what_is_no_model_is_not_ready(client: Any, name: str) -> None:
    assert not client.is_model_ready(name)
    with pytest.raises(InferenceServerException, match="there is no") as caught:
        client.get_model_metadata(name)
    assert caught.value.status() == "404"


@pytest.mark.parametrize("version", ["1", NOBODY, "latest", "a%00b"])
def test_another_version_is_not_found(api: Api, client: Any, version: str) -> None:
    assert not client.is_model_ready("best", version)
    with pytest.raises(InferenceServerException, match="no other") as caught:
        client.infer("best", [tensor(GREY[None], "UINT8")], model_version=version)
    assert caught.value.status() == "404"
    problem(api.get(f"/v2/models/best/versions/{version}"), 404, "model-not-found")


DTYPES = {
    "FP32": np.float32,
    "FP64": np.float64,
    "FP16": np.float16,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
}


@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("datatype", DTYPES)
def test_a_batch_is_inferred(
    api: Api, client: Any, version: str, datatype: str, binary_input: bool, binary_output: bool
) -> None:
    batch = np.stack([GREY, OTHER, GREY]).astype(DTYPES[datatype])
    found = client.infer(
        "best",
        [tensor(batch.reshape(3, 784), datatype, binary=binary_input)],
        outputs=[wanted(name, binary_data=binary_output) for name in ("digit", "probabilities")],
        request_id="request 7",
    )
    answer = found.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("best", version, "request 7")
    assert answer["parameters"] == {"range": "0-255"}
    assert [one["name"] for one in answer["outputs"]] == ["digit", "probabilities"]
    probabilities = found.as_numpy("probabilities")
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (3, 10))
    np.testing.assert_allclose(probabilities, expected(api, [GREY, OTHER, GREY]), atol=1e-6)
    digits = found.as_numpy("digit")
    assert (digits.dtype, digits.shape) == (np.int64, (3,))
    assert digits.tolist() == probabilities.argmax(axis=1).tolist()


@pytest.mark.parametrize("shape", [(784,), (28, 28), (28, 28, 1), (1, 28, 28)])
@pytest.mark.parametrize("binary", [True, False])
def test_an_image_may_have_any_shape_of_its_numbers(
    api: Api, client: Any, shape: tuple[int, ...], binary: bool
) -> None:
    found = client.infer("best", [tensor(GREY.reshape(1, *shape), "UINT8", binary=binary)])
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected(api, [GREY]), atol=1e-6)


def test_both_outputs_come_in_bytes_if_none_is_named(client: Any) -> None:
    found = client.infer("best", [tensor(GREY[None], "UINT8")])
    assert [one["name"] for one in found.get_response()["outputs"]] == ["probabilities", "digit"]
    assert [one["parameters"]["binary_data_size"] for one in found.get_response()["outputs"]] == [40, 8]
    assert "id" not in found.get_response()


def test_only_what_is_asked_for_comes(client: Any) -> None:
    found = client.infer("best", [tensor(GREY[None], "UINT8")], outputs=[wanted("digit", binary_data=False)])
    (output,) = found.get_response()["outputs"]
    assert output == {"name": "digit", "datatype": "INT64", "shape": [1], "data": output["data"]}
    assert found.as_numpy("probabilities") is None


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 3, 10, 99])
def test_the_likeliest_classes_come_as_text(client: Any, count: int, binary: bool) -> None:
    batch = tensor(np.stack([GREY, OTHER]), "UINT8")
    found = client.infer("best", [batch], outputs=[wanted("probabilities", binary_data=binary, class_count=count)])
    texts = found.as_numpy("probabilities")
    assert texts.shape == (2, min(count, 10))
    probabilities = client.infer("best", [batch]).as_numpy("probabilities")
    for row, all_ in zip(texts, probabilities, strict=True):
        parts = [(text.decode() if isinstance(text, bytes) else text).split(":") for text in row]
        values = [np.float32(value) for value, _, _ in parts]
        assert values == sorted(values, reverse=True)
        assert values == [all_[int(index)] for _, index, _ in parts]
        assert [label for _, _, label in parts] == [LABELS["mnist"][int(index)] for _, index, _ in parts]
        assert values[0] == all_.max()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_a_request_may_be_compressed(api: Api, client: Any, algorithm: str, binary: bool) -> None:
    found = client.infer(
        "best",
        [tensor(GREY[None], "UINT8", binary=binary)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected(api, [GREY]), atol=1e-6)


RANGES: list[tuple[npt.NDArray[Any], str, str | None, str]] = [
    (GREY / np.float32(255), "FP32", None, "0-1"),
    (GREY / np.float32(255), "FP32", "0-1", "0-1"),
    (GREY / np.float32(255), "FP32", "0-255", "0-255"),
    (GREY.astype(np.float32), "FP32", None, "0-255"),
    (GREY // 200, "UINT8", None, "0-255"),
    (GREY // 200, "UINT8", "0-1", "0-1"),
]


@pytest.mark.parametrize(("picture", "datatype", "asked", "read"), RANGES)
@pytest.mark.parametrize("binary", [True, False])
def test_the_range_is_the_one_asked_for_or_follows_from_the_numbers(
    api: Api, client: Any, picture: Any, datatype: str, asked: str | None, read: str, binary: bool
) -> None:
    parameters = {"range": asked} if asked else None
    found = client.infer("best", [tensor(picture[None], datatype, binary=binary)], parameters=parameters)
    assert found.get_response()["parameters"] == {"range": read}
    np.testing.assert_allclose(
        found.as_numpy("probabilities"), expected(api, [picture.astype(float)], range=read), atol=1e-6
    )


def test_parameters_of_others_are_ignored(client: Any) -> None:
    found = client.infer("best", [tensor(GREY[None], "UINT8")], priority=1, timeout=10, parameters={"mine": 1})
    assert found.as_numpy("digit").shape == (1,)


def test_a_version_may_be_named(client: Any, version: str) -> None:
    for name in ("best", version):
        found = client.infer(name, [tensor(GREY[None], "UINT8")], model_version=version)
        assert found.get_response()["model_version"] == version


def test_an_alias_that_moves_has_another_version(tiny_onnx: bytes, sqlite_api: Api) -> None:
    ids = [succeed(sqlite_api.ports.database, sqlite_api.ports.blobs, tiny_onnx).id for _ in range(2)]
    with triton.InferenceServerClient(f"{sqlite_api.base_url.host}:{sqlite_api.base_url.port}") as client:
        for experiment_id in ids:
            sqlite_api.put("/models/mine", json={"experiment_id": experiment_id}).raise_for_status()
            found = client.infer("mine", [tensor(GREY[None], "UINT8")])
            assert found.get_response()["model_version"] == experiment_id
            assert client.get_model_metadata("mine")["versions"] == [experiment_id]
        assert not client.is_model_ready("mine", ids[0])
        assert client.is_model_ready("mine", ids[1])


def test_many_at_once_by_the_asynchronous_client_get_each_their_own(api: Api, version: str) -> None:
    asyncio.run(_many_at_once(api, version))


async def _many_at_once(api: Api, version: str) -> None:
    async with triton_aio.InferenceServerClient(f"{api.base_url.host}:{api.base_url.port}") as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready("best")
        assert (await client.get_model_metadata("best"))["versions"] == [version]
        pictures = [np.roll(GREY, shift, axis=0)[None] for shift in range(28)]
        found = await asyncio.gather(
            *(
                client.infer("best", [tensor(picture, "UINT8", binary=i % 2 == 0)], request_id=str(i))
                for i, picture in enumerate(pictures)
            )
        )
        assert [one.get_response()["id"] for one in found] == [str(i) for i in range(28)]
        probabilities = np.concatenate([one.as_numpy("probabilities") for one in found])
        np.testing.assert_allclose(probabilities, expected(api, [picture[0] for picture in pictures]), atol=1e-6)
        with pytest.raises(InferenceServerException, match="there is no alias nobody"):
            await client.infer("nobody", [tensor(GREY[None], "UINT8")])


def test_a_large_batch_is_inferred(api: Api, client: Any) -> None:
    batch = np.stack([np.roll(GREY, shift, axis=1) for shift in range(MOST)])
    for binary in (True, False):
        found = client.infer("best", [tensor(batch.astype(np.float32), "FP32", binary=binary)])
        np.testing.assert_allclose(found.as_numpy("probabilities"), expected(api, list(batch)), atol=1e-6)


CLIENT_ERRORS: dict[str, tuple[Any, str, str]] = {
    "too many": (tensor(np.zeros((MOST + 1, 784), np.uint8), "UINT8"), "413", f"at most {MOST}"),
    "none": (tensor(np.zeros((0, 784), np.uint8), "UINT8"), "422", "shape"),
    "one without a batch": (tensor(GREY, "UINT8"), "422", "shape"),
    "another shape": (tensor(np.zeros((1, 32, 32), np.uint8), "UINT8"), "422", "shape"),
    "bool": (tensor(GREY[None] > 0, "BOOL"), "422", "datatype"),
    "text": (tensor(np.array([["a"] * 784], dtype=object), "BYTES"), "422", "datatype"),
    "NaN": (tensor(np.full((1, 784), np.nan, np.float32), "FP32"), "422", "nan"),
    "infinite": (tensor(np.full((1, 784), np.inf, np.float32), "FP32"), "422", "inf"),
    "negative": (tensor(np.full((1, 784), -1, np.int8), "INT8"), "422", "between 0 and 255"),
    "too bright": (tensor(np.full((1, 784), 256, np.int32), "INT32"), "422", "between 0 and 255"),
}


@pytest.mark.parametrize(("input_", "status", "words"), CLIENT_ERRORS.values(), ids=CLIENT_ERRORS.keys())
def test_the_client_is_told_what_is_wrong(client: Any, input_: Any, status: str, words: str) -> None:
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer("best", [input_])
    assert caught.value.status() == status


def test_the_client_is_told_which_tensors_there_are(client: Any) -> None:
    other = triton.InferInput("input_0", [1, 784], "UINT8")
    other.set_data_from_numpy(GREY.reshape(1, 784))
    with pytest.raises(InferenceServerException, match="one input, pixels"):
        client.infer("best", [other])
    with pytest.raises(InferenceServerException, match="probabilities and digit"):
        client.infer("best", [tensor(GREY[None], "UINT8")], outputs=[wanted("logits")])
    with pytest.raises(InferenceServerException, match="one tensor"):
        client.infer("best", [tensor(GREY[None], "UINT8")] * 2)
    shared = triton.InferInput("pixels", [1, 784], "UINT8")
    shared.set_shared_memory("region", 784)
    with pytest.raises(InferenceServerException, match="not shared"):
        client.infer("best", [shared])


# By hand.


def request(**changes: Any) -> dict[str, Any]:
    """An inference request in JSON, of which the input has these other members; None takes one away."""
    input_ = {"name": "pixels", "datatype": "UINT8", "shape": [1, 784], "data": GREY.ravel().tolist()} | changes
    return {"inputs": [{name: value for name, value in input_.items() if value is not None}]}


def infer(api: Api, body: Any, header_length: object = None, model: str = "best", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if header_length is not None:
        headers[HEADER] = str(header_length)
    return api.post(f"/v2/models/{model}/infer", content=content, headers=headers)


def test_json_is_answered_with_json(api: Api, version: str) -> None:
    for data in (GREY.ravel().tolist(), [GREY.ravel().tolist()]):
        response = infer(api, request(data=data) | {"id": "é", "unknown": 1})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        assert HEADER not in response.headers
        body = response.json()
        probabilities, digit = body.pop("outputs")
        assert body == {"model_name": "best", "model_version": version, "id": "é", "parameters": {"range": "0-255"}}
        assert probabilities.keys() == {"name", "datatype", "shape", "data"}
        assert probabilities["shape"] == [1, 10]
        np.testing.assert_allclose([probabilities["data"]], expected(api, [GREY]), atol=1e-6)
        assert digit["data"] == [int(np.argmax(probabilities["data"]))]


@pytest.mark.parametrize(
    "media_type", [None, "application/json", "application/octet-stream", "application/x-www-form-urlencoded", "x"]
)
def test_media_types_do_not_matter(api: Api, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    assert infer(api, request(), **headers).status_code == 200


def test_an_image_may_come_without_any_json(api: Api) -> None:
    response = infer(api, GREY.astype("<f4").tobytes(), 0)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[HEADER])
    header, rest = json.loads(response.content[:length]), response.content[length:]
    assert [one["parameters"]["binary_data_size"] for one in header["outputs"]] == [40, 8]
    np.testing.assert_allclose([np.frombuffer(rest[:40], "<f4")], expected(api, [GREY]), atol=1e-6)
    assert np.frombuffer(rest[40:], "<i8").shape == (1,)
    problem(infer(api, b"", 0), 422)
    problem(infer(api, bytes(784), 0), 422)


def test_an_output_may_say_otherwise_than_the_request(api: Api) -> None:
    body = request() | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}, {"name": "digit"}],
    }
    response = infer(api, body)
    length = int(response.headers[HEADER])
    probabilities, digit = json.loads(response.content[:length])["outputs"]
    assert len(probabilities["data"]) == 10
    assert "data" not in digit
    assert np.frombuffer(response.content[length:], "<i8").tolist() == [int(np.argmax(probabilities["data"]))]


def test_the_input_itself_may_say_its_range(api: Api) -> None:
    body = request(datatype="FP32", parameters={"range": "0-255"}, data=[0.5] * 784)
    assert infer(api, body).json()["parameters"] == {"range": "0-255"}
    assert infer(api, body | {"parameters": {"range": "0-1"}}).json()["parameters"] == {"range": "0-1"}


def test_an_empty_list_of_outputs_means_all(api: Api) -> None:
    assert len(infer(api, request() | {"outputs": []}).json()["outputs"]) == 2


BODIES: dict[str, tuple[Any, str]] = {
    "nothing": (b"", ""),
    "half": (b"{", ""),
    "no UTF-8": (b'{"id": "\xff"}', ""),
    "deep": (b'{"inputs": ' + b"[" * 100_000, ""),
    "a list": ([], ""),
    "null": (None, ""),
    "no inputs": ({}, "/inputs"),
    "inputs of another kind": ({"inputs": {}}, "/inputs"),
    "empty inputs": ({"inputs": []}, "/inputs"),
    "an input of another kind": ({"inputs": [1]}, "/inputs"),
    "two inputs": ({"inputs": request()["inputs"] * 2}, "/inputs"),
    "no name": (request(name=None), "/inputs/0/name"),
    "another name": (request(name="image"), "/inputs/0/name"),
    "a name of another kind": (request(name=[]), "/inputs/0/name"),
    "no datatype": (request(datatype=None), "/inputs/0/datatype"),
    "another datatype": (request(datatype="fp32"), "/inputs/0/datatype"),
    "a datatype of another kind": (request(datatype={}), "/inputs/0/datatype"),
    "no shape": (request(shape=None), "/inputs/0/shape"),
    "an empty shape": (request(shape=[]), "/inputs/0/shape"),
    "a shape of another kind": (request(shape="1x784"), "/inputs/0/shape"),
    "a shape of lists": (request(shape=[[1], [784]]), "/inputs/0/shape"),
    "a shape with fractions": (request(shape=[1, 784.0]), "/inputs/0/shape"),
    "a shape with true": (request(shape=[True, 784]), "/inputs/0/shape"),
    "a negative shape": (request(shape=[-1, 784]), "/inputs/0/shape"),
    "a shape of nothing": (request(shape=[0, 784], data=[]), "/inputs/0/shape"),
    "no data": (request(data=None), "/inputs/0"),
    "data of another kind": (request(data={}), "/inputs/0/data"),
    "data in text": (request(data="0" * 784), "/inputs/0/data"),
    "too little": (request(data=[0] * 783), "/inputs/0/data"),
    "too much": (request(data=[0] * 785), "/inputs/0/data"),
    "nested otherwise": (request(data=[GREY.tolist()]), "/inputs/0/data"),
    "nested the other way round": (request(data=[[0]] * 784), "/inputs/0/data"),
    "nested deeper": (request(data=[[[0]] * 784]), "/inputs/0/data"),
    "ragged": (request(shape=[2, 784], data=[[0] * 783, [0] * 785]), "/inputs/0/data"),
    "nested very deep": (
        b'{"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 784], "data": '
        + b"[" * 900
        + b"0"
        + b"]" * 900
        + b"}]}",
        "/inputs/0/data",
    ),
    "text for a number": (request(data=["0"] + [0] * 783), "/inputs/0/data"),
    "null for a number": (request(data=[None] + [0] * 783), "/inputs/0/data"),
    "true for a number": (request(data=[True] + [0] * 783), "/inputs/0/data"),
    "a list among numbers": (request(data=[0, [0]] + [0] * 782), "/inputs/0/data"),
    "a number among lists": (request(shape=[2, 784], data=[[0] * 784, 0]), "/inputs/0/data"),
    "fractions in integers": (request(data=[0.5] + [0] * 783), "/inputs/0/data"),
    "more than the datatype holds": (request(datatype="INT8", data=[128] + [0] * 783), "/inputs/0/data"),
    "256": (request(datatype="INT32", data=[256] + [0] * 783), "/inputs/0/data"),
    "a huge number": (request(datatype="FP32", data=[1e308] + [0] * 783), "/inputs/0/data"),
    "2 to the 64th": (request(datatype="UINT64", data=[2**64 - 1] + [0] * 783), "/inputs/0/data"),
    "NaN": (json.dumps(request(datatype="FP32", data=[math.nan] * 784)).encode(), ""),
    "2 of 0..1": (request(parameters={"range": "0-1"}, data=[2] + [0] * 783), "/inputs/0/data"),
    "another range": (request(parameters={"range": "0-2"}), "/inputs/0/parameters/range"),
    "a range of another kind": (request() | {"parameters": {"range": []}}, "/parameters/range"),
    "parameters of another kind": (request() | {"parameters": []}, "/parameters"),
    "parameters of the input of another kind": (request(parameters=1), "/inputs/0/parameters"),
    "both data and bytes": (request(parameters={"binary_data_size": 0}), "/inputs/0"),
    "an id of another kind": (request() | {"id": 42}, "/id"),
    "outputs of another kind": (request() | {"outputs": {}}, "/outputs"),
    "an output of another kind": (request() | {"outputs": ["digit"]}, "/outputs/0/name"),
    "another output": (request() | {"outputs": [{"name": "digit"}, {"name": "x"}]}, "/outputs/1/name"),
    "an output with a list for a name": (request() | {"outputs": [{"name": []}]}, "/outputs/0/name"),
    "an output twice": (request() | {"outputs": [{"name": "digit"}] * 2}, "/outputs"),
    "many outputs": (request() | {"outputs": [{"name": "digit"}] * 10_000}, "/outputs"),
    "a flag of another kind": (
        request() | {"parameters": {"binary_data_output": 1}},
        "/parameters/binary_data_output",
    ),
    "an output's flag of another kind": (
        request() | {"outputs": [{"name": "digit", "parameters": {"binary_data": "no"}}]},
        "/outputs/0/parameters/binary_data",
    ),
    "a negative number of classes": (
        request() | {"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]},
        "/outputs/0/parameters/classification",
    ),
    "true for a number of classes": (
        request() | {"outputs": [{"name": "probabilities", "parameters": {"classification": True}}]},
        "/outputs/0/parameters/classification",
    ),
    "classes of the digit": (
        request() | {"outputs": [{"name": "digit", "parameters": {"classification": 1}}]},
        "/outputs/0/parameters/classification",
    ),
    "shared memory for an output": (
        request() | {"outputs": [{"name": "digit", "parameters": {"shared_memory_region": "x"}}]},
        "/outputs/0/parameters",
    ),
}


@pytest.mark.parametrize(("body", "pointer"), BODIES.values(), ids=BODIES.keys())
def test_a_wrong_request_is_refused_where_it_is_wrong(api: Api, body: Any, pointer: str) -> None:
    found = problem(infer(api, body), 422)
    assert found["errors"][0]["pointer"] == pointer
    assert len(found["detail"]) < 400


def in_bytes(size: object, **changes: Any) -> bytes:
    return json.dumps(request(data=None, parameters={"binary_data_size": size}, **changes)).encode()


def test_bytes_must_be_as_many_as_is_said_everywhere(api: Api) -> None:
    right = in_bytes(784)
    assert infer(api, right + bytes(784), len(right)).status_code == 200
    for size, sent in [(783, 783), (785, 785), (784, 783), (784, 785), (0, 0), (-1, 784), (True, 1), ("784", 784)]:
        header = in_bytes(size)
        found = problem(infer(api, header + bytes(sent), len(header)), 422)
        assert found["errors"][0]["pointer"].startswith("/inputs/0")
    problem(infer(api, right), 422)
    header = json.dumps(request()).encode()
    assert "belong to no tensor" in problem(infer(api, header + bytes(8), len(header)), 422)["detail"]
    four = in_bytes(784, datatype="FP32")
    assert "3136 bytes" in problem(infer(api, four + bytes(784), len(four)), 422)["detail"]


@pytest.mark.parametrize("length", ["-1", "x", "1.5", "", "²", "9" * 30, "1, 2"])
def test_a_header_that_is_no_length_is_refused(api: Api, length: str) -> None:
    response = api.post(
        "/v2/models/best/infer", content=b"{}", headers=[(HEADER.encode(), length.encode("latin-1", "replace"))]
    )
    (fault,) = problem(response, 422)["errors"]
    assert (fault["location"], fault["pointer"]) == ("header", f"/{HEADER}")


def test_a_header_longer_than_the_body_is_refused(api: Api) -> None:
    problem(infer(api, request(), 10**9), 422)
    problem(infer(api, b"{}", 3), 422)


def test_what_is_too_large_is_refused(api: Api) -> None:
    problem(infer(api, bytes(2**20 + 1)), 413, "too-large")
    problem(infer(api, request(shape=[MOST + 1, 784])), 413, "too-large")
    bomb = gzip.compress(bytes(2**21))
    assert len(bomb) < 10_000
    problem(infer(api, bomb, **{"content-encoding": "gzip"}), 413, "too-large")


def test_packed_bodies_that_cannot_be_unpacked_are_refused(api: Api) -> None:
    packed = gzip.compress(json.dumps(request()).encode())
    assert infer(api, packed, **{"content-encoding": "GZIP"}).status_code == 200
    for body in (b"text", packed[:-9], packed + b"more", b""):
        problem(infer(api, body, **{"content-encoding": "gzip"}), 422)
    problem(infer(api, packed, **{"content-encoding": "br"}), 415, "unsupported-media-type")
    problem(infer(api, packed, **{"content-encoding": "gzip, gzip"}), 415)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/models/best/infer"), ("POST", "/v2/models/best"), ("POST", "/v2"), ("GET", "/v2/repository/index")],
)
def test_another_method_is_refused(api: Api, method: str, path: str) -> None:
    problem(api.request(method, path), 405)


def test_probes_answer_head(api: Api) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/best", "/v2/models/best/ready"):
        assert (api.head(path).status_code, api.head(path).content) == (200, b"")
    assert api.get("/v2/models/best/ready").json() == {"name": "best", "ready": True}
    assert api.get("/v2/health/live").json() == {"live": True}
    assert api.get("/v2/health/ready").json() == {"ready": True}


def test_without_a_model_best_is_not_found(empty_api: Api) -> None:
    assert "POST /experiments" in problem(infer(empty_api, request()), 404, "model-not-found")["detail"]
    problem(empty_api.get("/v2/models/best/ready"), 404)
    assert empty_api.post("/v2/repository/index").json() == []


def test_an_experiment_without_a_model_is_not_ready(sqlite_api: Api) -> None:
    created = sqlite_api.post("/experiments", json={"activation": "relu", "depth": 1}).json()
    problem(infer(sqlite_api, request(), model=created["id"]), 409, "experiment-not-finished")
    problem(sqlite_api.get(f"/v2/models/{created['id']}/ready"), 409)
    sqlite_api.post(f"/experiments/{created['id']}/cancel").raise_for_status()
    problem(infer(sqlite_api, request(), model=created["id"]), 404, "model-not-found")


def test_a_model_whose_file_is_gone_is_not_ready(sqlite_api: Api, tiny_onnx: bytes) -> None:
    done = succeed(sqlite_api.ports.database, sqlite_api.ports.blobs, tiny_onnx)
    assert done.model is not None
    sqlite_api.ports.blobs.delete(done.id, done.model.formats["onnx"].sha256)
    problem(sqlite_api.get("/v2/models/best/ready"), 410)
    problem(infer(sqlite_api, request()), 410)


def test_the_server_is_not_ready_without_its_database(postgres_url: str, tmp_path: Any) -> None:
    with serving(Settings(data_dir=tmp_path / "data", database_url=postgres_url)) as api:
        assert api.get("/v2/health/ready").status_code == 200
        with out_of_reach(postgres_url):
            problem(api.get("/v2/health/ready"), 503)
            problem(api.get("/v2/models/best/ready"), 503)
            assert api.get("/v2/health/live").status_code == 200
