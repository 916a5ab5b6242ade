"""/v1/models: TensorFlow Serving's REST API (https://www.tensorflow.org/tfx/serving/api_rest), for its clients."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request

from service.api.deps import Ports, PortsOf, ports_of
from service.api.direct import add_direct, read_query
from service.api.packed import read_body
from service.api.problems import responses
from service.api.security import needs
from service.api.servables import LARGE_BODY, MANY, ModelName, Version, servable
from service.domain.access import Scope
from service.domain.experiment import PIXELS
from service.errors import InvalidImage, InvalidInput, TooLarge
from service.serving import images
from service.serving.images import Pixels, Range
from service.serving.predictor import Servable
from service.serving.tensors import CLASSES, INPUT, PROBABILITIES

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["tensorflow serving"])


class _Name(StringConvertor):
    """A part of a path: `best:predict` is a model and what to do with it, not a model's name."""

    regex = "(?:(?!:predict(?:/|$))[^/])+"


register_url_convertor("name", _Name())

SIGNATURE = "serving_default"

ROW = [0] * 12 + [255] * 4 + [0] * 12
ONE = [[0] * 28] * 4 + [ROW] * 20 + [[0] * 28] * 4
IMAGES: dict[str, Any] = {
    "description": 'A list of images: each 28x28, 28x28x1 or 784 numbers, or `{"b64": a picture in base64}`.'
}
BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "signature_name": {"enum": [SIGNATURE, ""]},
                    "instances": IMAGES,
                    "inputs": {"description": f'The same, or `{{"{INPUT}": the same}}`.'},
                },
                "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
            },
            "examples": {
                "rows": {"summary": "A vertical stroke, by rows", "value": {"instances": [ONE]}},
                "columns": {"summary": "The same, by columns", "value": {"inputs": {INPUT: [ONE]}}},
            },
        }
    },
}


class VersionError(BaseModel):
    """That nothing is wrong."""

    error_code: Literal["OK"] = "OK"
    error_message: Literal[""] = ""


class VersionStatus(BaseModel):
    """A version that can answer."""

    version: str = Field(description="The experiment that the model is of now.")
    state: Literal["AVAILABLE"] = "AVAILABLE"
    status: VersionError = VersionError()


class ModelStatus(BaseModel):
    """A model's versions."""

    model_version_status: list[VersionStatus]


class ModelSpec(BaseModel):
    """Which model is described."""

    name: str
    signature_name: Literal[""] = ""
    version: str


class SignatureMetadata(BaseModel):
    """What a model takes and gives, spelled as TensorFlow Serving does."""

    model_spec: ModelSpec
    metadata: dict[str, Any]


class Predictions(BaseModel):
    """The probabilities of each image's classes, under the word that the images came under."""

    predictions: list[list[float]] | None = Field(default=None, description="To `instances`.")
    outputs: list[list[float]] | None = Field(default=None, description="To `inputs`.")


class ServingQuery(BaseModel):
    """How to read numbers."""

    model_config = ConfigDict(extra="forbid")

    range: Literal["0-255", "0-1"] | None = Field(
        default=None, description="What numbers mean. Default: numbers that never exceed 1 are 0..1, others 0..255."
    )


USUAL = ServingQuery()


def _declare(model: ModelName, query: Annotated[ServingQuery, Query()]) -> None:
    """For the API's description: `predict` reads them itself."""


def _declare_version(version: Version) -> None:
    """The same."""


async def predict(request: Request) -> Response:
    """Answer from a model: ten probabilities for each image, of up to `EPOCHD_MAX_IMAGES`.

    `instances` are answered with `predictions`, `inputs` with `outputs`. Media types do not matter; a body may be
    compressed by `gzip` or `deflate`.
    """
    ports = ports_of(request)
    query = await read_query(request, ServingQuery, USUAL)
    model = await servable(ports, request.path_params["model"], request.path_params.get("version"))
    body = await read_body(request, ports.settings.max_body_bytes)
    if len(body) >= LARGE_BODY:
        return await ports.turns.run(_predict, ports, model, body, query.range)
    word, pixels = _decode(ports, body, query.range)
    if len(pixels) > MANY:
        return await ports.turns.run(_answer, ports, model, word, pixels)
    return _answer(ports, model, word, pixels)


async def version_predict(request: Request) -> Response:
    """The same, or 404 once the name means another experiment."""
    return await predict(request)


# What is asked most comes first: routes are tried in their order.
ANSWERS = responses(404, 409, 410, 413, 415) | {200: {"model": Predictions}}
add_direct(
    router,
    "/models/{model}:predict",
    predict,
    summary="Predict with a model",
    declares=[_declare],
    answers=ANSWERS,
    body=BODY,
)
add_direct(
    router,
    "/models/{model}/versions/{version}:predict",
    version_predict,
    summary="Predict with a version of a model",
    declares=[_declare, _declare_version],
    answers=ANSWERS,
    body=BODY,
)


@router.get(
    "/models/{model:name}",
    summary="Tell a model's state",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def status(ports: PortsOf, model: ModelName) -> ModelStatus:
    """`AVAILABLE` when the model has been loaded."""
    return _status(await servable(ports, model))


@router.get(
    "/models/{model:name}/versions/{version:name}",
    summary="Tell a version's state",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def version_status(ports: PortsOf, model: ModelName, version: Version) -> ModelStatus:
    """The same, or 404 once the name means another experiment."""
    return _status(await servable(ports, model, version))


@router.get(
    "/models/{model}/metadata",
    summary="Give a model's signature",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def metadata(ports: PortsOf, model: ModelName) -> SignatureMetadata:
    """The tensors that it takes and gives, as signature `serving_default`."""
    return _metadata(model, await servable(ports, model))


@router.get(
    "/models/{model}/versions/{version}/metadata",
    summary="Give a version's signature",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def version_metadata(ports: PortsOf, model: ModelName, version: Version) -> SignatureMetadata:
    """The same, or 404 once the name means another experiment."""
    return _metadata(model, await servable(ports, model, version))


def _predict(ports: Ports, model: Servable, body: bytes, wanted: Range | None) -> Response:
    return _answer(ports, model, *_decode(ports, body, wanted))


def _answer(ports: Ports, model: Servable, word: str, pixels: Pixels) -> Response:
    probabilities: npt.NDArray[np.float32] = ports.predictor.probabilities(model, pixels)
    answer = {"predictions" if word == "instances" else "outputs": probabilities}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _decode(ports: Ports, body: bytes, wanted: Range | None) -> tuple[str, Pixels]:
    """`instances` or `inputs`, and the images under it: float32 (n, 784) of 0..255."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is no valid JSON: {error}") from None
    words = request.keys() - {"signature_name"} if isinstance(request, dict) else set()
    if words not in ({"instances"}, {"inputs"}):
        raise InvalidInput('the body is {"instances": [...]} or {"inputs": [...]}')
    if request.get("signature_name") not in (None, "", SIGNATURE):
        raise InvalidInput(f"the model has one signature, {SIGNATURE}", "/signature_name")
    (word,) = words
    values, pointer = request[word], f"/{word}"
    if word == "inputs" and isinstance(values, dict):
        values, pointer = _only(values, pointer), f"{pointer}/{INPUT}"
    if not isinstance(values, list) or not values:
        raise InvalidInput(f"{word} is a list of at least one image", pointer)
    if isinstance(values[0], int | float):
        raise InvalidInput(
            f"{word} is a list of images; this is a number: put one image into a list, too", f"{pointer}/0"
        )
    most = ports.settings.max_images
    if len(values) > most:
        raise TooLarge(f"{len(values)} images are too many for one request: at most {most}")
    plain = [_plain(value, f"{pointer}/{i}") for i, value in enumerate(values)]
    pixels, _ = images.from_many(plain, max_pixels=ports.settings.max_image_pixels, wanted=wanted, pointer=pointer)
    if (b"true" in body or b"false" in body) and any(map(_holds_bool, plain)):  # the first look costs nothing
        raise InvalidImage("an image is made of numbers, not of true and false", pointer)
    return word, pixels


def _plain(value: object, pointer: str) -> object:
    """An image as `images.from_many` knows it: without the name of the tensor or the mark of base64, and 28x28 where
    it has a channel.
    """
    if isinstance(value, dict) and INPUT in value:
        value = _only(value, pointer)
    if isinstance(value, dict):
        if value.keys() != {"b64"} or not isinstance(value["b64"], str):
            raise InvalidInput(f'an image is numbers, {{"b64": text}}, or one of them as {{"{INPUT}": ...}}', pointer)
        return value["b64"]
    if isinstance(value, str):
        raise InvalidInput('a picture in base64 is sent as {"b64": text}', pointer)
    if isinstance(value, list) and value and isinstance(value[0], list) and value[0] and isinstance(value[0][0], list):
        return [_without_channel(row) for row in value]
    return value


def _without_channel(row: object) -> object:
    if isinstance(row, list) and all(isinstance(pixel, list) and len(pixel) == 1 for pixel in row):
        return [pixel[0] for pixel in row]
    return row


def _only(values: dict[str, object], pointer: str) -> object:
    if values.keys() != {INPUT}:
        raise InvalidInput(f"the model has one input, {INPUT}", pointer)
    return values[INPUT]


def _holds_bool(image: object) -> bool:
    """Of one that was read: it is at most two lists deep."""
    if not isinstance(image, list):
        return False
    return any(isinstance(row, bool) or (isinstance(row, list) and bool in set(map(type, row))) for row in image)


def _status(model: Servable) -> ModelStatus:
    return ModelStatus(model_version_status=[VersionStatus(version=model.experiment_id)])


def _metadata(name: str, model: Servable) -> SignatureMetadata:
    signature = {
        "inputs": {INPUT: _tensor(INPUT, PIXELS)},
        "outputs": {PROBABILITIES: _tensor(PROBABILITIES, CLASSES)},
        "method_name": "tensorflow/serving/predict",
    }
    return SignatureMetadata(
        model_spec=ModelSpec(name=name, version=model.experiment_id),
        metadata={"signature_def": {"signature_def": {SIGNATURE: signature}}},
    )


def _tensor(name: str, size: int) -> dict[str, Any]:
    dimensions = [{"size": str(length), "name": ""} for length in (-1, size)]
    return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": f"{name}:0"}
