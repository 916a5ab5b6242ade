"""/v2: the Open Inference Protocol (https://github.com/kserve/open-inference-protocol), which Triton, KServe and
MLServer speak, with Triton's binary tensors and classification.
"""

from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter, Header, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.requests import Request

from service.api.deps import Ports, PortsOf, ports_of
from service.api.direct import add_direct
from service.api.packed import read_body
from service.api.problems import responses
from service.api.security import needs
from service.api.servables import LARGE_BODY, MANY, ModelName, Version, servable
from service.datasets import LABELS
from service.domain.access import Scope
from service.domain.experiment import PIXELS
from service.serving import tensors
from service.serving.predictor import Servable
from service.serving.tensors import CLASSES, DIGIT, INPUT, PROBABILITIES, Inference
from service.store import models, schema

__all__ = ["router"]

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

EXTENSIONS = ["binary_tensor_data", "classification", "parameters"]
HEADER_LENGTH = "Inference-Header-Content-Length"
RANGE = (
    "Whole numbers are 0..255. Fractions are 0..1 if none of the request exceeds 1, otherwise 0..255. The parameter "
    "`range` of a request, `0-1` or `0-255`, decides where it is given."
)

BINARY: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
STROKE = [0] * 364 + [255] * 56 + [0] * 364
ONE: dict[str, Any] = {"name": INPUT, "datatype": "UINT8", "shape": [1, PIXELS], "data": STROKE}
PARAMETERS: dict[str, Any] = {"type": "object", "description": "Others than those named are ignored."}
TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"const": INPUT},
        "datatype": {"enum": list(tensors.DTYPES)},
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "description": "`[n, 784]`, `[n, 28, 28]`, `[n, 28, 28, 1]` or `[n, 1, 28, 28]`.",
        },
        "parameters": PARAMETERS
        | {"properties": {"binary_data_size": {"type": "integer"}, "range": {"enum": list(tensors.RANGES)}}},
        "data": {"type": "array", "items": {}, "description": "The numbers in a row, or nested as `shape` says."},
    },
}
BODY: dict[str, Any] = {
    "required": True,
    "description": RANGE,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "parameters": PARAMETERS
                    | {
                        "properties": {
                            "binary_data_output": {"type": "boolean"},
                            "range": {"enum": list(tensors.RANGES)},
                        }
                    },
                    "inputs": {"type": "array", "items": TENSOR, "minItems": 1, "maxItems": 1},
                    "outputs": {
                        "type": "array",
                        "description": "Both, if none is named.",
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {
                                "name": {"enum": [PROBABILITIES, DIGIT]},
                                "parameters": PARAMETERS
                                | {
                                    "properties": {
                                        "binary_data": {"type": "boolean"},
                                        "classification": {"type": "integer", "minimum": 0},
                                    }
                                },
                            },
                        },
                    },
                },
            },
            "examples": {
                "both": {"summary": "One image, both outputs", "value": {"id": "42", "inputs": [ONE]}},
                "classes": {
                    "summary": "The three likeliest classes of it",
                    "value": {
                        "inputs": [ONE],
                        "outputs": [{"name": PROBABILITIES, "parameters": {"classification": 3}}],
                    },
                },
            },
        },
        **BINARY,
    },
}


class ServerMetadata(BaseModel):
    """The server."""

    name: Literal["epochd"] = "epochd"
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """The server answers."""

    live: Literal[True] = True


class ServerReady(BaseModel):
    """The server can serve."""

    ready: Literal[True] = True


class ModelReady(BaseModel):
    """The model can answer."""

    name: str
    ready: Literal[True] = True


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1: as many as there are images.")
    parameters: dict[str, str] | None = None


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str] = Field(description="The experiment that it is of now.")
    platform: Literal["onnxruntime_onnx"] = "onnxruntime_onnx"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, str]


class IndexEntry(BaseModel):
    """A model that can be asked."""

    name: str
    version: str
    state: Literal["READY"] = "READY"
    reason: Literal[""] = ""


class AnsweredTensor(BaseModel):
    """An output."""

    name: Literal["probabilities", "digit"]
    datatype: Literal["FP32", "INT64", "BYTES"]
    shape: list[int]
    data: list[float | int | str | None] | None = Field(default=None, description="In a row; absent if in bytes.")
    parameters: dict[str, int] | None = Field(default=None, description="`binary_data_size`, if in bytes.")


class InferenceAnswer(BaseModel):
    """What a model answers."""

    model_name: str
    model_version: str
    id: str | None = Field(default=None, description="As in the request; absent if there was none.")
    parameters: dict[str, str] = Field(description="`range`: how the numbers were read.")
    outputs: list[AnsweredTensor]


def _declare(
    model: ModelName,
    header_length: int | None = Header(
        default=None, alias=HEADER_LENGTH, ge=0, description="Bytes of the JSON, where a tensor's bytes follow it."
    ),
) -> None:
    """For the API's description: `infer` reads them itself."""


def _declare_version(version: Version) -> None:
    """The same."""


async def infer(request: Request) -> Response:
    """Answer from a model: the probability of each class, and the likeliest, of up to `EPOCHD_MAX_IMAGES` images.

    Tensors are lists in the JSON, or bytes behind it (`binary_data_size`, `binary_data`, `binary_data_output`).
    Media types do not matter; a body may be compressed by `gzip` or `deflate`.
    """
    ports = ports_of(request)
    name = request.path_params["model"]
    model = await servable(ports, name, request.path_params.get("version"))
    body = await read_body(request, ports.settings.max_body_bytes)
    header_length = _header_length(request)
    if len(body) >= LARGE_BODY:
        return await ports.turns.run(_infer, ports, model, name, body, header_length)
    inference = tensors.decode(body, header_length, max_images=ports.settings.max_images)
    if len(inference.pixels) > MANY:
        return await ports.turns.run(_answer, ports, model, name, inference)
    return _answer(ports, model, name, inference)


async def version_infer(request: Request) -> Response:
    """The same, or 404 once the name means another experiment."""
    return await infer(request)


# What is asked most comes first: routes are tried in their order.
ANSWERS = responses(404, 409, 410, 413, 415) | {200: {"model": InferenceAnswer, "content": BINARY}}
add_direct(
    router,
    "/models/{model}/infer",
    infer,
    summary="Infer with a model",
    declares=[_declare],
    answers=ANSWERS,
    body=BODY,
)
add_direct(
    router,
    "/models/{model}/versions/{version}/infer",
    version_infer,
    summary="Infer with a version of a model",
    declares=[_declare, _declare_version],
    answers=ANSWERS,
    body=BODY,
)


@router.get("", summary="Describe the server", responses=responses(), dependencies=[needs(Scope.PREDICT, Scope.READ)])
async def server_metadata() -> ServerMetadata:
    """Its name, version, and the protocol's extensions that it speaks."""
    return ServerMetadata(version=version("epochd"), extensions=EXTENSIONS)


@router.get(
    "/health/live",
    summary="Is the server alive?",
    responses=responses(),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def server_live() -> ServerLive:
    """Always 200 while the process can answer at all."""
    return ServerLive()


@router.get(
    "/health/ready",
    summary="Can the server serve?",
    responses=responses(),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
def server_ready(ports: PortsOf) -> ServerReady:
    """200 when the database can be reached and has the schema of this version, 503 otherwise."""
    schema.require_current(ports.database)
    return ServerReady()


@router.post(
    "/repository/index",
    summary="List models by the protocol",
    responses=responses(),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
def index(ports: PortsOf) -> list[IndexEntry]:
    """Every alias. Each succeeded experiment's id is a model, too, and is not listed."""
    with ports.database.read() as session:
        return [IndexEntry(name=alias.name, version=alias.experiment_id) for alias in models.aliases(session)]


@router.get(
    "/models/{model}",
    summary="Describe a model",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def metadata(ports: PortsOf, model: ModelName) -> ModelMetadata:
    """Its version, and the tensors that it takes and gives."""
    return _metadata(model, await servable(ports, model))


@router.get(
    "/models/{model}/versions/{version}",
    summary="Describe a version of a model",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def version_metadata(ports: PortsOf, model: ModelName, version: Version) -> ModelMetadata:
    """The same, or 404 once the name means another experiment."""
    return _metadata(model, await servable(ports, model, version))


@router.get(
    "/models/{model}/ready",
    summary="Can a model answer?",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def ready(ports: PortsOf, model: ModelName) -> ModelReady:
    """200 when the model has been loaded."""
    await servable(ports, model)
    return ModelReady(name=model)


@router.get(
    "/models/{model}/versions/{version}/ready",
    summary="Can a version of a model answer?",
    responses=responses(404, 409, 410),
    dependencies=[needs(Scope.PREDICT, Scope.READ)],
)
async def version_ready(ports: PortsOf, model: ModelName, version: Version) -> ModelReady:
    """The same, or 404 once the name means another experiment."""
    await servable(ports, model, version)
    return ModelReady(name=model)


def _header_length(request: Request) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        fault = {"type": "int", "loc": ("header", HEADER_LENGTH), "msg": "a number of bytes", "input": None}
        raise RequestValidationError([fault])
    return int(given)


def _infer(ports: Ports, model: Servable, name: str, body: bytes, header_length: int | None) -> Response:
    inference = tensors.decode(body, header_length, max_images=ports.settings.max_images)
    return _answer(ports, model, name, inference)


def _answer(ports: Ports, model: Servable, name: str, inference: Inference) -> Response:
    probabilities = ports.predictor.probabilities(model, inference.pixels)
    labels = LABELS[model.dataset]
    body, header_length = tensors.encode(inference, name, model.experiment_id, probabilities, labels)
    if header_length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(header_length)})


def _metadata(name: str, model: Servable) -> ModelMetadata:
    return ModelMetadata(
        name=name,
        versions=[model.experiment_id],
        inputs=[TensorMetadata(name=INPUT, datatype="FP32", shape=[-1, PIXELS], parameters={"range": RANGE})],
        outputs=[
            TensorMetadata(name=PROBABILITIES, datatype="FP32", shape=[-1, CLASSES]),
            TensorMetadata(name=DIGIT, datatype="INT64", shape=[-1]),
        ],
        parameters={"dataset": model.dataset},
    )
