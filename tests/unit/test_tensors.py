"""Tensors of the Open Inference Protocol: every way to write one reads as the same pixels, and back."""

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput, TooLarge
from service.serving import tensors
from service.serving.tensors import DTYPES, Inference, Output

PIXELS = np.arange(2 * 784).reshape(2, 784) % 128
LABELS = tuple("abcdefghij")
ALL = (Output("probabilities", False), Output("digit", False))


def request(array: npt.NDArray[Any], datatype: str, *, binary: bool, **parameters: Any) -> tuple[bytes, int | None]:
    input_: dict[str, Any] = {"name": "pixels", "datatype": datatype, "shape": list(array.shape)}
    blob = array.astype(DTYPES[datatype]).tobytes()
    if binary:
        input_["parameters"] = {"binary_data_size": len(blob)}
    else:
        input_["data"] = array.ravel().tolist()
    header = json.dumps({"inputs": [input_], "parameters": parameters}).encode()
    return (header + blob, len(header)) if binary else (header, None)


def decode(body: bytes, header_length: int | None) -> Inference:
    return tensors.decode(body, header_length, max_images=10)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_reads_as_the_same_pixels(datatype: str, binary: bool) -> None:
    found = decode(*request(PIXELS, datatype, binary=binary))
    assert found.pixels.dtype == np.float32
    assert (found.pixels.shape, found.range) == ((2, 784), "0-255")
    np.testing.assert_array_equal(found.pixels, PIXELS)
    assert (found.id, found.outputs) == (None, ALL)


@pytest.mark.parametrize("shape", [(2, 784), (2, 28, 28), (2, 28, 28, 1), (2, 1, 28, 28)])
def test_lists_may_be_flat_or_nested_as_the_shape(shape: tuple[int, ...]) -> None:
    array = PIXELS.reshape(shape)
    for data in (array.tolist(), array.ravel().tolist()):
        input_ = {"name": "pixels", "datatype": "UINT8", "shape": list(shape), "data": data}
        found = decode(orjson.dumps({"inputs": [input_]}), None)
        np.testing.assert_array_equal(found.pixels, PIXELS)


def test_float32_bytes_of_pixels_are_not_copied() -> None:
    body, length = request(PIXELS.astype(np.float32), "FP32", binary=True)
    assert np.shares_memory(decode(body, length).pixels, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_fractions_that_never_exceed_1_are_shares(datatype: str, binary: bool) -> None:
    found = decode(*request(np.full((1, 784), 0.5), datatype, binary=binary))
    assert found.range == "0-1"
    assert (found.pixels == 127.5).all()
    one = decode(*request(np.array([[1.5] + [0.5] * 783]), datatype, binary=binary))
    assert (one.range, one.pixels[0, 0]) == ("0-255", 1.5)
    as_asked = decode(*request(np.full((1, 784), 0.5), datatype, binary=binary, range="0-255"))
    assert (as_asked.range, as_asked.pixels[0, 0]) == ("0-255", 0.5)


@given(st.binary(max_size=400), st.none() | st.integers(0, 500))
def test_any_bytes_are_a_request_or_an_error(body: bytes, header_length: int | None) -> None:
    with pytest.raises(InvalidInput):
        decode(body, header_length)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [
        ("id",),
        ("parameters",),
        ("parameters", "range"),
        ("parameters", "binary_data_output"),
        ("outputs",),
        ("outputs", 0),
        ("outputs", 0, "name"),
        ("outputs", 0, "parameters"),
        ("outputs", 0, "parameters", "classification"),
        ("outputs", 0, "parameters", "binary_data"),
        ("inputs",),
        ("inputs", 0),
        ("inputs", 0, "name"),
        ("inputs", 0, "datatype"),
        ("inputs", 0, "shape"),
        ("inputs", 0, "shape", 0),
        ("inputs", 0, "shape", 1),
        ("inputs", 0, "parameters"),
        ("inputs", 0, "parameters", "range"),
        ("inputs", 0, "parameters", "binary_data_size"),
        ("inputs", 0, "data"),
        ("inputs", 0, "data", 0),
    ]
)


@given(PATHS, JSON)
def test_a_request_with_anything_in_it_is_answered_or_refused(path: tuple[Any, ...], value: Any) -> None:
    body: dict[str, Any] = {
        "id": "x",
        "parameters": {},
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 784], "parameters": {}, "data": [0] * 784}],
        "outputs": [{"name": "probabilities", "parameters": {}}],
    }
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    try:
        found = decode(orjson.dumps(body), None)
    except (InvalidInput, TooLarge):
        return
    answer, _ = tensors.encode(found, "m", "v", np.full((1, 10), 0.1, np.float32), LABELS)
    assert answer.startswith(b'{"model_name":"m"')


def test_too_many_images_are_refused_before_they_are_read() -> None:
    input_ = {"name": "pixels", "datatype": "FP32", "shape": [11, 784], "data": []}
    with pytest.raises(TooLarge, match="at most 10"):
        decode(orjson.dumps({"inputs": [input_]}), None)


PROBABILITIES = np.array([[0, 0.25, 0.5, 0.25, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]], np.float32)


def inference(*outputs: Output) -> Inference:
    return Inference(np.zeros((2, 784), np.float32), "0-255", outputs)


def test_an_answer_in_json_has_flat_data() -> None:
    body, length = tensors.encode(inference(*ALL), "best", "1", PROBABILITIES, LABELS)
    assert length is None
    assert json.loads(body) == {
        "model_name": "best",
        "model_version": "1",
        "parameters": {"range": "0-255"},
        "outputs": [
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [2, 10],
                "data": [0, 0.25, 0.5, 0.25, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            },
            {"name": "digit", "datatype": "INT64", "shape": [2], "data": [2, 0]},
        ],
    }


def test_bytes_follow_the_json_in_the_order_of_outputs() -> None:
    outputs = (Output("digit", True), Output("probabilities", True))
    body, length = tensors.encode(inference(*outputs), "best", "1", PROBABILITIES, LABELS)
    described = json.loads(body[:length])["outputs"]
    assert [one["parameters"] for one in described] == [{"binary_data_size": 16}, {"binary_data_size": 80}]
    assert not any("data" in one for one in described)
    assert length is not None
    assert body[length:] == struct.pack("<2q", 2, 0) + struct.pack("<20f", *PROBABILITIES.ravel())


@pytest.mark.parametrize("binary", [True, False])
def test_classes_are_text_and_the_first_of_equals_comes_first(binary: bool) -> None:
    outputs = inference(Output("probabilities", binary, 3))
    body, length = tensors.encode(outputs, "best", "1", PROBABILITIES, LABELS)
    texts = ["0.5:2:c", "0.25:1:b", "0.25:3:d", "1.0:0:a", "0.0:1:b", "0.0:2:c"]
    (output,) = json.loads(body[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 3])
    if binary:
        assert body[length:] == b"".join(struct.pack("<I", len(text)) + text.encode() for text in texts)
    else:
        assert output["data"] == texts
