"""Routes that take the request as it is."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.api.deps import refuse_repeats

__all__ = ["DirectRoute", "read_query"]

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
