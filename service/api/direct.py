"""Routes that take the request as it is."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.deps import refuse_repeats
from service.api.security import Needs, needs, needs_of
from service.domain import access

__all__ = ["DirectRoute", "DirectRoutes", "add_direct", "read_query"]

Query = TypeVar("Query", bound=BaseModel)


class DirectRoute(APIRoute):
    """Calls the endpoint with the request alone. What the framework does for every request, to resolve dependencies
    and to check what comes back, takes several times as long as a prediction. Declared dependencies are documented,
    and not run, except for what the route needs.
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
    """Add a POST route that takes the request as it is, of whoever may predict. What `declares` say they take, and
    `body`, are documented.
    """
    router.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        summary=summary,
        dependencies=[needs(access.Scope.PREDICT), *(Depends(one) for one in declares)],
        responses=answers,
        openapi_extra={"requestBody": body},
        response_class=Response,
        route_class_override=DirectRoute,
    )


class DirectRoutes:
    """Finds direct routes before the framework does: its own way to a route takes as long as a prediction."""

    def __init__(self, app: ASGIApp, routers: Sequence[APIRouter], handlers: Mapping[Any, Any]) -> None:
        """Take the routers whose direct routes are served, and what answers each kind of error."""
        self._app = app
        self._handled = ExceptionMiddleware(self._serve, handlers)
        self._routes = [
            (Route(route.path, route.endpoint, methods=["POST"]), _needs(route))
            for router in routers
            for route in router.routes
            if isinstance(route, DirectRoute)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or pass it on."""
        if scope["type"] == "http" and scope["method"] == "POST":
            for route, needed in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found, route=route, needs=needed)
                    await self._handled(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["needs"].require(scope)
        await scope["route"].app(scope, receive, send)


def _needs(route: APIRoute) -> Needs:
    found = needs_of(route)
    if found is None:
        raise TypeError(f"{route.path} does not say by `needs` who may ask it")
    return found


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
