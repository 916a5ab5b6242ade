"""Every error as RFC 9457 problem details, made by one handler. Nothing internal leaves the process."""

import logging
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount

from service import errors

__all__ = ["Problem", "answer", "install", "refusals", "responses"]

log = logging.getLogger("epochd.api")

MEDIA_TYPE = "application/problem+json"
# When to try again, by what was answered.
RETRY_AFTER_SECONDS = {HTTPStatus.SERVICE_UNAVAILABLE: "5", HTTPStatus.TOO_MANY_REQUESTS: "10"}
CHALLENGE = "Bearer"
"""How to say who one is (RFC 6750)."""

# The nearest class on an error's line of descent decides.
STATUS: dict[type[errors.EpochdError], HTTPStatus] = {
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    errors.NotPermitted: HTTPStatus.FORBIDDEN,
    errors.SeveralHosts: HTTPStatus.BAD_REQUEST,
    errors.UnknownHost: HTTPStatus.MISDIRECTED_REQUEST,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.LimitReached: HTTPStatus.TOO_MANY_REQUESTS,
    errors.UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.NotInstalled: HTTPStatus.NOT_IMPLEMENTED,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BlobMissing: HTTPStatus.GONE,
    errors.DatasetUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
# Where an invalid input stands, if not in the body.
LOCATION: dict[type[errors.EpochdError], str] = {
    errors.InvalidCursor: "query",
    errors.UnknownArm: "query",
    errors.IdempotencyKeyReused: "header",
}
# Why the framework could not read a body: it says only that it could not.
UNREADABLE: tuple[tuple[type[BaseException], str], ...] = (
    (RecursionError, "it is nested too deeply"),
    (UnicodeDecodeError, "it is no valid UTF-8"),
    (ValueError, "a number in it has too many digits"),
)
# Names of what the framework itself refuses. `HTTPStatus.phrase` is no name: it differs between versions of Python.
NAMES = {404: "not-found", 405: "method-not-allowed", 408: "too-slow", 413: "too-large", 416: "range-not-satisfiable"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

DESCRIPTIONS = {
    401: "An API key is asked for: `Authorization: Bearer KEY`.",
    403: "The API key does not allow this, or a page from elsewhere asks.",
    404: "There is no such thing.",
    409: "The request does not fit the present state.",
    410: "The model's file is gone.",
    413: "The body is too large.",
    415: "The body's media type is not read here.",
    416: "`Range` lies outside the file.",
    422: "The request cannot be meant: `errors` says where and why.",
    429: "Too many experiments wait, or a limit is reached; try again after `Retry-After`.",
    501: "This service has not installed what that needs.",
    503: "Something the service needs is away, or it has too much to do; try again after `Retry-After`.",
}


MAX_FAULTS = 20
"""A list of a million wrong values is told of by its first."""


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to what is wrong; empty for the whole.")
    message: str
    location: str = Field(description="`body`, `query`, `path` or `header`.")


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="Stable name of the kind of problem.")
    title: str
    status: int
    detail: str = Field(description="What was wrong, and what would be right.")
    instance: str = Field(description="The path that was asked.")
    error: str = Field(description="The same as `detail`, for Open Inference Protocol clients.")
    request_id: str | None = Field(
        default=None, description="Names the request in the service's log, as the answer's `X-Request-ID` does."
    )
    errors: list[Fault] | None = Field(default=None, description="Each fault, or the first 20 of many; on 422 only.")


def install(app: FastAPI) -> None:
    """Make every error of this app a problem."""
    for kind in (errors.EpochdError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for its `responses=`."""
    return {
        status: {
            "description": DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 422, 429, 503})
    }


def refusals() -> dict[str, Any]:
    """What every route that asks for a scope may answer with besides."""
    return {str(status): answer for status, answer in responses(401, 403).items() if status in {401, 403}}


def answer(request: Request, error: Exception) -> Response:
    """The problem that an error is."""
    match error:
        case errors.InvalidInput():
            location = LOCATION.get(type(error), "body")
            faults = [Fault(pointer=error.pointer, message=str(error), location=location)]
            return _answer(request, _status(error), _name(error), str(error), faults=faults)
        case errors.BlobCorrupt() | errors.BlobMissing():
            log.error("%s", error)
            return _answer(request, _status(error), _name(error), "the model's file is gone or damaged: retrain it")
        case errors.NotAuthenticated() if (limited := request.app.state.failed_keys.count(request, error)) is not None:
            return answer(request, limited)
        case errors.LimitReached():
            wait = {"Retry-After": str(error.retry_after)}
            return _answer(request, _status(error), _name(error), str(error), headers=wait)
        case errors.EpochdError():
            if error.__cause__ is not None:
                log.warning("%s: %s", error, error.__cause__)
            return _answer(request, _status(error), _name(error), str(error))
        case RequestValidationError():
            return _invalid(request, error.errors())
        case HTTPException():
            return _http(request, error)
        case _:
            log.error("unexpected error", exc_info=error)
            detail = "an unexpected error; the service's log has the details"
            # The server closes the connection behind an unexpected error: a client must not send more on it.
            headers = {"Connection": "close"}
            return _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail, headers=headers)


def _http(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    detail = str(error.detail)
    headers = dict(error.headers or {})
    if status is HTTPStatus.BAD_REQUEST:
        return _unreadable(request, error)
    if status is HTTPStatus.NOT_FOUND:
        detail = f"there is no {request.url.path}: GET /openapi.json lists what there is"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request) or headers.get("Allow", "")
        detail = f"{request.method} is not possible here; possible: {headers['Allow']}"
    return _answer(request, status, NAMES.get(status, f"http-{status}"), detail, headers=headers)


def _unreadable(request: Request, error: HTTPException) -> Response:
    """The framework's 400: it could not take the body apart."""
    reason = next((text for kind, text in UNREADABLE if isinstance(error.__cause__, kind)), str(error.detail))
    detail = f"the body cannot be read: {reason[:1].lower()}{reason[1:].rstrip('.')}"
    faults = [Fault(pointer="", message=detail, location="body")]
    return _answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", detail, faults=faults)


def _allowed(request: Request) -> str:
    """The methods of every route with this path, and HEAD with GET. The framework names those of the first alone."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    scopes = {method: dict(request.scope) | {"method": method} for method in METHODS}
    found = [m for m, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]
    return ", ".join(["HEAD", *found] if "GET" in found and "HEAD" not in found else found)


def _invalid(request: Request, found: Sequence[Any]) -> Response:
    faults = [_fault(fault) for fault in found[:MAX_FAULTS]]
    detail = "; ".join(f"{fault.pointer or fault.location}: {fault.message}" for fault in faults)
    if more := len(found) - len(faults):
        detail += f"; and {more:,} more"
    if any(f["loc"][0] == "body" and isinstance(f.get("input"), bytes) for f in found):
        detail = "the body must be JSON, sent as Content-Type: application/json"
        return _answer(request, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
    return _answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", detail, faults=faults)


def _fault(fault: dict[str, Any]) -> Fault:
    location, *path = fault["loc"]
    message = fault["msg"]
    if fault["type"] == "json_invalid":
        return Fault(pointer="", location="body", message=f"no valid JSON: {fault['ctx']['error']} at {path[0]}")
    if fault["type"] == "extra_forbidden":
        message = "there is no such field"
    elif not path and fault["type"] == "missing":
        message = f"the {location} is missing"
    elif not path and fault["type"] == "model_attributes_type":
        message = "must be a JSON object"
    elif fault["type"] == "value_error":
        message = str(fault["ctx"]["error"])
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
    return Fault(pointer=pointer, message=message[:1].lower() + message[1:], location=str(location))


def _status(error: errors.EpochdError) -> HTTPStatus:
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _name(error: Exception) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()


def _answer(
    request: Request,
    status: HTTPStatus,
    name: str,
    detail: str,
    *,
    faults: list[Fault] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    problem = Problem(
        type=f"urn:epochd:problem:{name}",
        title=name.replace("-", " ").capitalize(),
        status=status,
        detail=detail,
        instance=request.scope["raw_path"].decode("ascii"),
        error=detail,
        request_id=request.scope.get("state", {}).get("request_id"),
        errors=faults,
    )
    headers = headers or {}
    if status in RETRY_AFTER_SECONDS:
        headers.setdefault("Retry-After", RETRY_AFTER_SECONDS[status])
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    return JSONResponse(
        problem.model_dump(exclude_none=True), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )
