"""Models: their files, and the aliases that name them."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from service.api.deps import ExperimentId, PortsOf, refuse_repeats
from service.api.problems import responses
from service.api.security import ActorOf, needs
from service.api.servables import ALIAS
from service.domain.access import Scope
from service.errors import ModelNotFound
from service.store import experiments, models, trail
from service.store.models import Alias

__all__ = ["router"]

router = APIRouter(tags=["models"])

AliasName = Annotated[str, Path(pattern=f"^{ALIAS}$", description="Letters, digits, `.`, `_` and `-`.")]
Format = Literal["keras", "onnx"]
BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


class AliasTarget(BaseModel):
    """Which model an alias shall name."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"experiment_id": "019304a2-7b1c-7d3e-8f00-0123456789ab"}]}
    )

    experiment_id: UUID = Field(description="A succeeded experiment.")


class AliasAnswer(BaseModel):
    """A name of a model."""

    alias: str
    experiment_id: str
    dataset: str
    test_accuracy: float
    computed: bool = Field(description="Whether it moves by itself, as `best` does.")
    updated_at: datetime | None = Field(description="When it was last set; null for a computed one.")


class AliasList(BaseModel):
    """Every alias."""

    data: list[AliasAnswer]


@router.get(
    "/experiments/{experiment_id}/model",
    summary="Download a model",
    responses=responses(404, 409, 410, 416)
    | {
        200: {"description": "The file.", "content": BYTES},
        206: {"description": "The part that `Range` asked for.", "content": BYTES},
        304: {"description": "You have it: `If-None-Match` names its SHA-256."},
    },
    response_class=Response,
    dependencies=[needs(Scope.READ), Depends(refuse_repeats)],
)
def download(
    ports: PortsOf,
    experiment_id: ExperimentId,
    format_: Annotated[Format, Query(alias="format", description="Which file.")] = "keras",
    range_: Annotated[str | None, Header(alias="Range", description="`bytes=FIRST-LAST`.")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """The trained network: `keras` for `keras.saving.load_model`, `onnx` for any ONNX runtime (float32 pixels of
    0..1 in, probabilities out). `ETag` is the file's SHA-256.
    """
    with ports.database.read() as session:
        models.resolve_experiment(session, experiment_id)
        model = experiments.get(session, experiment_id).model
    if model is None:
        raise ModelNotFound("the experiment has no model")
    sha256 = model.formats[format_].sha256
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
    if if_none_match is not None and (if_none_match.strip() == "*" or etag in if_none_match):
        return Response(status_code=304, headers=headers)
    data = ports.blobs.get(experiment_id, sha256)
    headers["Content-Disposition"] = f'attachment; filename="{experiment_id}.{format_}"'
    part = _part(range_, len(data)) if if_range in {None, etag} else None
    if part is None:
        return Response(data, media_type="application/octet-stream", headers=headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(
        data[part.start : part.stop], status_code=206, media_type="application/octet-stream", headers=headers
    )


@router.get("/models", summary="List aliases", responses=responses(), dependencies=[needs(Scope.READ)])
def list_(ports: PortsOf) -> AliasList:
    """Every name a model has: `best`, the one of highest test accuracy on MNIST, `best-fashion_mnist`, and yours.
    Empty until an experiment has succeeded.
    """
    with ports.database.read() as session:
        return AliasList(data=[_answer(alias) for alias in models.aliases(session)])


@router.get("/models/{alias}", summary="Read an alias", responses=responses(404), dependencies=[needs(Scope.READ)])
def read(ports: PortsOf, alias: AliasName) -> AliasAnswer:
    """Which model the name means now."""
    with ports.database.read() as session:
        return _answer(models.find_alias(session, alias))


@router.put(
    "/models/{alias}",
    summary="Set an alias",
    responses=responses(404, 409, 413, 415) | {201: {"description": "The alias is new.", "model": AliasAnswer}},
    dependencies=[needs(Scope.WRITE)],
)
def put(ports: PortsOf, actor: ActorOf, response: Response, alias: AliasName, target: AliasTarget) -> AliasAnswer:
    """Name a succeeded experiment's model, or move the name to it in one step: no prediction falls in between."""
    with ports.database.write() as session:
        set_, created = models.set_alias(session, alias, str(target.experiment_id))
        trail.record(session, actor, "alias.set", alias, experiment_id=set_.experiment_id)
    ports.predictor.forget(alias)
    if created:
        response.status_code = 201
    return _answer(set_)


@router.delete(
    "/models/{alias}",
    status_code=204,
    summary="Delete an alias",
    responses=responses(404, 409),
    dependencies=[needs(Scope.WRITE)],
)
def delete(ports: PortsOf, actor: ActorOf, alias: AliasName) -> None:
    """Forget the name; the model stays."""
    with ports.database.write() as session:
        models.delete_alias(session, alias)
        trail.record(session, actor, "alias.delete", alias)
    ports.predictor.forget(alias)


def _answer(alias: Alias) -> AliasAnswer:
    return AliasAnswer(
        alias=alias.name,
        experiment_id=alias.experiment_id,
        dataset=alias.dataset,
        test_accuracy=alias.test_accuracy,
        computed=alias.computed,
        updated_at=alias.updated_at,
    )


def _part(header: str | None, length: int) -> range | None:
    """The bytes that a `Range` header asks for (RFC 9110, 14.2); None for the whole, as for what is not understood."""
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        start, stop = max(0, length - int(last)), length
    else:
        start, stop = int(first), min(length, int(last) + 1 if last else length)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise HTTPException(416, f"the file has {length} bytes", headers={"Content-Range": f"bytes */{length}"})
    return range(start, stop)
