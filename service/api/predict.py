"""POST /predict: from a picture to a digit."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from service.api.deps import Ports, ports_of
from service.api.direct import DirectRoute, read_query
from service.api.problems import responses
from service.api.security import needs
from service.api.servables import ALIAS, LARGE_BODY, MANY, servable
from service.datasets import LABELS
from service.domain.access import Scope
from service.errors import InvalidImage, InvalidInput, TooLarge, UnsupportedMediaType
from service.serving import images
from service.serving.decoding import is_small
from service.serving.images import Pixels, Range, Steps
from service.serving.predictor import Servable
from service.store import models

__all__ = ["router"]

router = APIRouter(tags=["predictions"], route_class=DirectRoute)

PICTURES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff", "application/octet-stream")
MISSPELT = "image/jpg"
"""As many tools say for image/jpeg."""

ROW = [0] * 28
STROKE = [0] * 13 + [255, 255] + [0] * 13
ONE = [ROW] * 4 + [STROKE] * 20 + [ROW] * 4

BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "description": "Either `image` or `images`.",
                "properties": {
                    "image": {"description": "28 rows of 28 numbers, 784 numbers, or a base64 picture."},
                    "images": {"type": "array", "description": "Many of these.", "items": {}},
                },
                "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
            },
            "examples": {
                "one": {"summary": "A vertical stroke, as 28x28 numbers", "value": {"image": ONE}},
                "many": {"summary": "The same twice", "value": {"images": [ONE, ONE]}},
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                "required": ["image"],
            }
        },
        **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURES[:-1]},
    },
}


class Prediction(BaseModel):
    """What the network sees in one image."""

    digit: int = Field(description="The class of highest probability, 0..9.")
    label: str = Field(description="Its name in the model's dataset.")
    confidence: float = Field(description="Its probability.")
    probabilities: list[float] = Field(description="Of each class, 0 to 9.")
    pixels: list[list[int]] | None = Field(default=None, description="28x28 as the network saw it; by `explain=true`.")
    steps: list[str] | None = Field(
        default=None, description="What was done to the picture, in order; nothing to numbers. By `explain=true`."
    )


class PredictionAnswer(BaseModel):
    """What a model answers."""

    experiment_id: str = Field(description="The experiment that made the model.")
    range: Range = Field(description="How the numbers were read.")
    predictions: list[Prediction] = Field(description="One for each image, in their order.")


class OneOfMany(BaseModel):
    """What one of several models answers."""

    model: str = Field(description="As it was asked for.")
    experiment_id: str = Field(description="The experiment that made the model.")
    predictions: list[Prediction] = Field(description="One for each image, in their order.")


class ComparedAnswer(BaseModel):
    """What several models answer to the same images."""

    range: Range = Field(description="How the numbers were read.")
    answers: list[OneOfMany] = Field(description="One for each model, in the order they were asked for.")


class PredictQuery(BaseModel):
    """Which model answers, and how."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(pattern=f"^{ALIAS}(,{ALIAS}){{0,15}}$")] | None = Field(
        default=None,
        description="An alias or an experiment's id. Default: `best`. Several, up to 16, with commas between them: "
        "each answers, under `answers`.",
    )
    experiment_id: UUID | None = Field(default=None, description="A succeeded experiment, instead of an alias.")
    explain: bool = Field(
        default=False, description="Give the 28x28 pixels that the network saw, and how the picture came to be them."
    )
    range: Literal["0-255", "0-1"] | None = Field(
        default=None, description="What numbers mean. Default: numbers that never exceed 1 are 0..1, others 0..255."
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.model is not None and self.experiment_id is not None:
            raise ValueError("give either model or experiment_id, not both")
        return self


USUAL = PredictQuery()


def _declare(query: Annotated[PredictQuery, Query()]) -> None:
    """For the API's description: `predict` reads the query itself."""


@router.post(
    "/predict",
    summary="Read a digit",
    responses=responses(404, 409, 410, 413, 415) | {200: {"model": PredictionAnswer | ComparedAnswer}},
    openapi_extra={"requestBody": BODY},
    response_class=Response,
    dependencies=[needs(Scope.PREDICT), Depends(_declare)],
)
async def predict(request: Request) -> Response:
    """Answer from a saved model: the best one, an alias (`model`), or an experiment's (`experiment_id`); or from
    several at once, to compare them (`model=a,b,c`).

    Send numbers or base64 as JSON, files as `multipart/form-data` (field `image`, repeatable), or a picture as the
    body itself (PNG, JPEG, WebP, BMP, TIFF, or a GIF's first frame). A 28x28 picture with a dark background is used as
    it is; in any other the digit is found, also on unevenly lit or lined paper, and drawn, fitted and centred as
    MNIST's digits were. `explain=true` shows the result and the steps. A picture without ink is a 422.
    """
    ports = ports_of(request)
    query = await read_query(request, PredictQuery, USUAL)
    names = _names(query)
    chosen = [await servable(ports, name) for name in names]
    length = request.headers.get("content-length", "")
    steps: Steps | None = [] if query.explain else None
    pixels, found = await _pixels(ports, request, query.range, steps)
    if len(pixels) > MANY or (length.isdigit() and int(length) >= LARGE_BODY):
        body = await ports.turns.run(_answer, ports, names, chosen, pixels, found, steps)
    else:
        body = _answer(ports, names, chosen, pixels, found, steps)
    return Response(body, media_type="application/json")


def _names(query: PredictQuery) -> list[str]:
    if query.experiment_id is not None:
        return [str(query.experiment_id)]
    return query.model.split(",") if query.model is not None else [models.BEST]


async def _pixels(ports: Ports, request: Request, wanted: Range | None, steps: Steps | None) -> tuple[Pixels, Range]:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        files = await _files(ports, request)
        return await ports.turns.run(_from_files, ports, files, steps), "0-255"
    if kind not in {"application/json", MISSPELT, *PICTURES}:
        raise UnsupportedMediaType(
            f"the body is {kind or 'of no Content-Type'}: send application/json, multipart/form-data, "
            "image/png, image/jpeg, image/webp, image/bmp, image/gif or image/tiff"
        )
    body = await request.body()
    read = _from_json if kind == "application/json" else _from_picture
    # A few bytes can hold a picture of many pixels; in JSON it would be a text beside the name of the one member.
    quick = body.count(b'"') <= 2 if kind == "application/json" else is_small(body)
    if len(body) >= LARGE_BODY or not quick:
        return await ports.turns.run(read, ports, body, wanted, steps)
    return read(ports, body, wanted, steps)


async def _files(ports: Ports, request: Request) -> list[bytes]:
    most = ports.settings.max_images
    try:
        async with request.form(max_files=most, max_fields=8) as form:
            unknown = sorted({name for name in form if name != "image"})
            if unknown:
                raise InvalidInput(f"there is no field {unknown[0]!r}: files go into the field image")
            parts = form.getlist("image")
            if not parts or not all(isinstance(part, UploadFile) for part in parts):
                raise InvalidInput("the form needs at least one file in its field image", "/image")
            return [await part.read() for part in parts if isinstance(part, UploadFile)]
    except HTTPException as error:
        if error.detail.startswith("Too many files"):
            raise TooLarge(f"there are too many images for one request: at most {most}") from None
        raise


def _from_files(ports: Ports, files: list[bytes], steps: Steps | None) -> Pixels:
    limit = ports.settings.max_image_pixels
    return np.concatenate([_placed(data, limit, f"/image/{i}", steps) for i, data in enumerate(files)])


def _placed(data: bytes, max_pixels: int, pointer: str, steps: Steps | None) -> Pixels:
    try:
        return images.from_bytes(data, max_pixels=max_pixels, steps=steps)
    except InvalidImage as error:
        raise InvalidImage(str(error), pointer) from None


def _from_picture(ports: Ports, body: bytes, _wanted: Range | None, steps: Steps | None) -> tuple[Pixels, Range]:
    return images.from_bytes(body, max_pixels=ports.settings.max_image_pixels, steps=steps), "0-255"


def _from_json(ports: Ports, body: bytes, wanted: Range | None, steps: Steps | None) -> tuple[Pixels, Range]:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is no valid JSON: {error}") from None
    if not isinstance(values, dict) or len(values) != 1 or not values.keys() <= {"image", "images"}:
        raise InvalidInput('the body is {"image": ...} or {"images": [...]}, and nothing else')
    name, value = next(iter(values.items()))
    read = (_one if name == "image" else _many)(ports, value, wanted, steps)
    # Neither letter is in numbers: to look for one costs nothing, for the words as much as the network.
    if (b"u" in body or b"l" in body) and _holds_bool(list(values.values())):  # the u of true, the l of false
        raise InvalidImage("an image is made of numbers, not of true and false", f"/{name}")
    return read


def _one(ports: Ports, value: object, wanted: Range | None, steps: Steps | None) -> tuple[Pixels, Range]:
    if isinstance(value, str):
        limit = ports.settings.max_image_pixels
        return images.from_base64(value, max_pixels=limit, pointer="/image", steps=steps), "0-255"
    if steps is not None:
        steps.append([])
    return images.from_numbers(value, wanted=wanted, pointer="/image")


def _many(ports: Ports, values: object, wanted: Range | None, steps: Steps | None) -> tuple[Pixels, Range]:
    if not isinstance(values, list) or not values:
        raise InvalidInput("images is a list of at least one image", "/images")
    if len(values) > ports.settings.max_images:
        raise TooLarge(f"{len(values)} images are too many for one request: at most {ports.settings.max_images}")
    limit = ports.settings.max_image_pixels
    return images.from_many(values, max_pixels=limit, wanted=wanted, pointer="/images", steps=steps)


def _holds_bool(value: object) -> bool:
    """Whether there is a true or false in what has been read as images: Python takes them for 1 and 0."""
    return isinstance(value, bool) or (isinstance(value, list) and any(map(_holds_bool, value)))


def _answer(
    ports: Ports, names: list[str], chosen: list[Servable], pixels: Pixels, found: Range, steps: Steps | None
) -> bytes:
    answer: dict[str, Any]
    if len(chosen) == 1:
        predictions = _predictions(ports, chosen[0], pixels, steps)
        answer = {"experiment_id": chosen[0].experiment_id, "range": found, "predictions": predictions}
    else:
        answers = [
            {
                "model": name,
                "experiment_id": model.experiment_id,
                "predictions": _predictions(ports, model, pixels, steps),
            }
            for name, model in zip(names, chosen, strict=True)
        ]
        answer = {"range": found, "answers": answers}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _predictions(ports: Ports, model: Servable, pixels: Pixels, steps: Steps | None) -> list[dict[str, Any]]:
    probabilities = ports.predictor.probabilities(model, pixels)
    digits = probabilities.argmax(axis=1)
    labels = LABELS[model.dataset]
    predictions: list[dict[str, Any]] = [
        {
            "digit": digit,
            "label": labels[digit],
            "confidence": probabilities[row, digit],
            "probabilities": probabilities[row],
        }
        for row, digit in enumerate(digits.tolist())
    ]
    if steps is not None:
        seen = np.rint(pixels).astype(np.int64).reshape(-1, 28, 28)
        for prediction, grid, done in zip(predictions, seen, steps, strict=True):
            prediction["pixels"], prediction["steps"] = grid, done
    return predictions
