"""Tensors of the Open Inference Protocol v2 (https://github.com/kserve/open-inference-protocol), as JSON and as bytes.

Bytes follow Triton's extensions `binary_tensor_data` and `classification`
(https://github.com/triton-inference-server/server/tree/main/docs/protocol): the body is the JSON, and behind it the
tensors' bytes, little-endian and row by row.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from service.domain.experiment import PIXELS
from service.errors import InvalidInput, TooLarge
from service.serving.images import Pixels, Range

__all__ = ["CLASSES", "DIGIT", "INPUT", "PROBABILITIES", "Inference", "Output", "decode", "encode"]

INPUT = "pixels"
PROBABILITIES = "probabilities"
DIGIT = "digit"
CLASSES = 10

IMAGE_SHAPES = ((PIXELS,), (28, 28), (28, 28, 1), (1, 28, 28))
"""What one image may be declared as: the numbers stand in the same order in each."""
DTYPES: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "FP16": np.dtype("<f2"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}
RANGES: tuple[Range, ...] = ("0-255", "0-1")

Json = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """A tensor that the client wants."""

    name: str
    binary: bool
    """As bytes behind the JSON, not as a list in it."""
    classes: int = 0
    """So many of the likeliest classes as text, by the classification extension; 0 gives the tensor itself."""


@dataclass(frozen=True)
class Inference:
    """A request that can be answered."""

    pixels: Pixels
    """float32 (n, 784) of 0..255."""
    range: Range
    """How the numbers were read."""
    outputs: tuple[Output, ...]
    id: str | None = None
    """The client's name for the request."""


def decode(body: bytes, header_length: int | None, *, max_images: int) -> Inference:
    """Read the body of an inference request.

    Args:
        body: JSON, and behind it the bytes of the input where it is sent as such.
        header_length: bytes of the JSON; None for all of the body, 0 for an image without any JSON (a "raw binary
            request": one image of 784 FP32, answered in bytes).
        max_images: the most that are read.

    Raises:
        InvalidInput: it is no such request, or its input is not what the model takes. `pointer` says where.
        TooLarge: too many images.
    """
    if header_length == 0:
        pixels, found = _scaled(_from_bytes(memoryview(body), "FP32", 1, ""), "FP32", None, "")
        return Inference(pixels, found, (Output(PROBABILITIES, True), Output(DIGIT, True)))
    if header_length is not None and header_length > len(body):
        raise InvalidInput(f"Inference-Header-Content-Length is {header_length}, but the body has {len(body)} bytes")
    text = memoryview(body)[:header_length]
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is no valid JSON: {error}") from None
    if not isinstance(request, dict):
        raise InvalidInput('the body is an object: {"inputs": [...]}')
    name = request.get("id")
    if not (name is None or isinstance(name, str)):
        raise InvalidInput("the id of a request is text", "/id")
    parameters = _parameters(request, "")
    outputs = _outputs(request.get("outputs"), parameters)
    tensor = _only_input(request.get("inputs"))
    wanted = _range(parameters, "") or _range(_parameters(tensor, "/inputs/0"), "/inputs/0")
    # The u of inputs and the l of pixels are there; to count letters costs less than a look at each number.
    may_hold_bool = body.count(b"u") > 1 or body.count(b"l") > 1
    numbers, datatype = _numbers(tensor, memoryview(body)[len(text) :], max_images, may_hold_bool=may_hold_bool)
    pixels, found = _scaled(numbers, datatype, wanted, "/inputs/0/data")
    return Inference(pixels, found, outputs, name)


def encode(
    request: Inference, model: str, version: str, probabilities: npt.NDArray[np.float32], labels: Sequence[str]
) -> tuple[bytes, int | None]:
    """The body that answers a request.

    Args:
        request: what was asked.
        model: the name that was asked for.
        version: of the model that answered.
        probabilities: float32 (n, 10).
        labels: of the ten classes.

    Returns:
        The body, and how many bytes of it are JSON, or None where all are.
    """
    tensors, binary = [], []
    for output in request.outputs:
        tensor, data = _tensor(output, probabilities, labels)
        if output.binary:
            blob = _as_bytes(data)
            tensor["parameters"] = {"binary_data_size": len(blob)}
            binary.append(blob)
        else:
            tensor["data"] = data
        tensors.append(tensor)
    answer: Json = {"model_name": model, "model_version": version}
    if request.id is not None:
        answer["id"] = request.id
    answer["parameters"] = {"range": request.range}
    answer["outputs"] = tensors
    header = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([header, *binary]), len(header)) if binary else (header, None)


# Requests.


def _parameters(owner: Json, pointer: str) -> Json:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidInput("parameters are an object", f"{pointer}/parameters")
    return parameters


def _range(parameters: Json, pointer: str) -> Range | None:
    wanted = parameters.get("range")
    if wanted is None or wanted in RANGES:
        return wanted
    raise InvalidInput(f"the range is one of {', '.join(RANGES)}", f"{pointer}/parameters/range")


def _flag(parameters: Json, name: str, default: bool, pointer: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is true or false", f"{pointer}/parameters/{name}")
    return value


def _outputs(wanted: object, parameters: Json) -> tuple[Output, ...]:
    binary = _flag(parameters, "binary_data_output", False, "")
    if wanted is None or wanted == []:
        return Output(PROBABILITIES, binary), Output(DIGIT, binary)
    if not isinstance(wanted, list):
        raise InvalidInput("outputs are a list", "/outputs")
    outputs = tuple(_output(one, binary, f"/outputs/{i}") for i, one in enumerate(wanted[:3]))
    names = [output.name for output in outputs]
    if len(set(names)) < len(wanted):
        raise InvalidInput("an output is asked for twice", "/outputs")
    return outputs


def _output(wanted: object, binary: bool, pointer: str) -> Output:
    name = wanted.get("name") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or name not in (PROBABILITIES, DIGIT):
        raise InvalidInput(f"the model has the outputs {PROBABILITIES} and {DIGIT}", f"{pointer}/name")
    parameters = _parameters(wanted, pointer)
    _refuse_shared_memory(parameters, pointer)
    classes = parameters.get("classification", 0)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
        raise InvalidInput("classification is a number of classes, from 0 on", f"{pointer}/parameters/classification")
    if classes and name != PROBABILITIES:
        raise InvalidInput(f"only {PROBABILITIES} have classes", f"{pointer}/parameters/classification")
    return Output(name, _flag(parameters, "binary_data", binary, pointer), min(classes, CLASSES))


def _only_input(inputs: object) -> Json:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InvalidInput(f"inputs are a list of one tensor, {INPUT}", "/inputs")
    tensor: Json = inputs[0]
    if tensor.get("name") != INPUT:
        raise InvalidInput(f"the model has one input, {INPUT}", "/inputs/0/name")
    return tensor


def _refuse_shared_memory(parameters: Json, pointer: str) -> None:
    if "shared_memory_region" in parameters:
        raise InvalidInput("memory is not shared here: send the tensor in the body", f"{pointer}/parameters")


def _numbers(tensor: Json, rest: memoryview, max_images: int, *, may_hold_bool: bool) -> tuple[npt.NDArray[Any], str]:
    """The tensor as an array (n, 784), and its datatype."""
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise InvalidInput(f"the datatype of {INPUT} is one of {', '.join(DTYPES)}", "/inputs/0/datatype")
    shape = _shape(tensor.get("shape"), max_images)
    parameters = _parameters(tensor, "/inputs/0")
    _refuse_shared_memory(parameters, "/inputs/0")
    size = parameters.get("binary_data_size")
    data = tensor.get("data")
    if (size is None) == (data is None):
        raise InvalidInput("a tensor has either data or a parameter binary_data_size", "/inputs/0")
    if size is None:
        if rest:
            raise InvalidInput(f"there are {len(rest)} bytes behind the JSON that belong to no tensor")
        return _from_list(data, datatype, shape, may_hold_bool=may_hold_bool), datatype
    if size != len(rest) or isinstance(size, bool):
        raise InvalidInput(
            f"binary_data_size is {size!r:.40}, but {len(rest)} bytes stand behind the JSON, of which "
            "Inference-Header-Content-Length gives the length",
            "/inputs/0/parameters/binary_data_size",
        )
    return _from_bytes(rest, datatype, shape[0], "/inputs/0"), datatype


def _shape(shape: object, max_images: int) -> list[int]:
    if (
        not isinstance(shape, list)
        or tuple(shape[1:]) not in IMAGE_SHAPES
        or not all(type(size) is int for size in shape)
        or shape[0] < 1
    ):
        raise InvalidInput(
            f"the shape of {INPUT} is [n, {PIXELS}], [n, 28, 28], [n, 28, 28, 1] or [n, 1, 28, 28], for n images",
            "/inputs/0/shape",
        )
    if shape[0] > max_images:
        raise TooLarge(f"{shape[0]} images are too many for one request: at most {max_images}")
    return shape


def _from_bytes(data: memoryview, datatype: str, images: int, pointer: str) -> npt.NDArray[Any]:
    """Not copied."""
    dtype = DTYPES[datatype]
    expected = images * PIXELS * dtype.itemsize
    if len(data) != expected:
        raise InvalidInput(f"{images} x {PIXELS} {datatype} are {expected} bytes; these are {len(data)}", pointer)
    return np.frombuffer(data, dtype=dtype).reshape(images, PIXELS)


def _from_list(data: object, datatype: str, shape: list[int], *, may_hold_bool: bool) -> npt.NDArray[Any]:
    pointer = "/inputs/0/data"
    flat = _flat(data, shape)
    if flat is None:
        raise InvalidInput(
            f"the data is {math.prod(shape)} numbers in a row, or nested as the shape {shape} says", pointer
        )
    if may_hold_bool and bool in set(map(type, flat)):
        raise InvalidInput("the data is numbers, not true and false", pointer)
    try:  # the quickest way for what most are
        numbers: npt.NDArray[Any] = np.frombuffer(bytes(flat), dtype=np.uint8)
    except (TypeError, ValueError, OverflowError):  # not all are whole numbers of 0..255
        try:
            numbers = np.frombuffer(struct.pack(f"{len(flat)}d", *flat))  # a third of what array("d", flat) takes
        except (struct.error, OverflowError):
            raise InvalidInput("the data is numbers, and nothing else", pointer) from None
    dtype = DTYPES[datatype]
    if dtype.kind != "f":
        if numbers.dtype.kind == "f" and not (numbers == np.rint(numbers)).all():
            raise InvalidInput(f"the data has fractions, and {datatype} has none", pointer)
        if numbers.max() > np.iinfo(dtype).max:
            raise InvalidInput(f"the data has {numbers.max():g}, and {datatype} has not", pointer)
    return numbers.reshape(shape[0], PIXELS)


def _flat(data: object, shape: list[int]) -> list[Any] | None:
    """The numbers in a row, or None if they are neither that nor nested as the shape is."""
    if not isinstance(data, list):
        return None
    rows: list[Any] = data
    if rows and isinstance(rows[0], list):
        if len(rows) != shape[0]:
            return None
        for size in shape[1:]:
            if not all(isinstance(row, list) and len(row) == size for row in rows):
                return None
            rows = list(chain.from_iterable(rows))
    return rows if len(rows) == math.prod(shape) else None


def _scaled(numbers: npt.NDArray[Any], datatype: str, wanted: Range | None, pointer: str) -> tuple[Pixels, Range]:
    """float32 of 0..255. Where the client does not say what its numbers mean, whole ones are 0..255, and fractions
    are 0..1 if none exceeds 1, as for `POST /predict`.
    """
    low, high = numbers.min(), numbers.max()
    found: Range = wanted or ("0-1" if high <= 1 and DTYPES[datatype].kind == "f" else "0-255")
    limit = 1 if found == "0-1" else 255
    if not (low >= 0 and high <= limit):  # NaN is neither
        raise InvalidInput(f"the numbers must lie between 0 and {limit}; these go from {low:g} to {high:g}", pointer)
    pixels = numbers.astype(np.float32, copy=False)
    return (pixels * np.float32(255) if found == "0-1" else pixels), found


# Answers.


def _tensor(output: Output, probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> tuple[Json, Any]:
    """What describes an output, and its data: an array, or a list of texts."""
    count = len(probabilities)
    if output.name == DIGIT:
        return {"name": DIGIT, "datatype": "INT64", "shape": [count]}, probabilities.argmax(axis=1)
    if output.classes:
        texts = _classified(probabilities, output.classes, labels)
        return {"name": PROBABILITIES, "datatype": "BYTES", "shape": [count, output.classes]}, texts
    shape = [count, probabilities.shape[1]]
    return {"name": PROBABILITIES, "datatype": "FP32", "shape": shape}, probabilities.ravel()


def _classified(probabilities: npt.NDArray[np.float32], classes: int, labels: Sequence[str]) -> list[str]:
    """`value:index:label` of the likeliest classes of each image, the likeliest first."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :classes]
    return [
        f"{row[index]}:{index}:{labels[index]}"
        for row, indexes in zip(probabilities, best.tolist(), strict=True)
        for index in indexes
    ]


def _as_bytes(data: npt.NDArray[Any] | list[str]) -> bytes:
    if isinstance(data, list):
        texts = [text.encode() for text in data]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes()
