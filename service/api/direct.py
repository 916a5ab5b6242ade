"""Routes that take the request as it is."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.api.deps import refuse_repeats

__all__ = ["DirectRoute", "add_direct", "read_query"]

Query = TypeVar("Query", bound=BaseModel)


class DirectRoute(APIRoute):
    """Calls the endpoint with the request alone. What the framework does for every request, to resolve dependencies
    and to check what comes back, takes several times as long as a prediction. Declared dependencies are documented,
    and not run.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


def add_direct(
    router: APIRouter,
    path: str,
    endpoint: Callable[[Request], Coroutine[Any, Any, Response]],
    *,
    summary: str,
    declares: Sequence[Callable[..., None]],
    answers: dict[int | str, dict[str, Any]],
    body: dict[str, Any],
) -> None:
    """Add a POST route that takes the request as it is. What `declares` say they take, and `body`, are documented."""
    router.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        summary=summary,
        dependencies=[Depends(one) for one in declares],
        responses=answers,
        openapi_extra={"requestBody": body},
        response_class=Response,
        route_class_override=DirectRoute,
    )


async def read_query(request: Request, kind: type[Query], usual: Query) -> Query:
    """The request's query parameters as a value; `usual`, what no parameters mean, costs nothing.

    Raises:
        RequestValidationError: a parameter is unknown, wrong, or given twice.
    """
    if not request.scope["query_string"]:
        return usual
    await refuse_repeats(request)
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        faults = error.errors()
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in faults]) from None
