"""Who asks, and whether they may. `admission.py` finds out who it is; each route says what it needs by `needs`."""

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from service.domain.access import Actor, Caller, Scope
from service.errors import NotAuthenticated, NotPermitted

__all__ = ["COOKIE", "OPEN", "ActorOf", "Needs", "actor_of", "caller_of", "describe", "needs", "needs_of"]

COOKIE = "epochd_session"
"""The cookie in which the page keeps the key of whoever has signed in."""

OPEN = (
    "/",
    "/assets/docs",
    "/assets/web",
    "/assets/plotly.min.js",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/health/live",
    "/health/ready",
    "/session",
)
"""What needs no key: what one has to see to sign in, and what says nothing about anybody's work."""

NOBODY: Caller = Caller(key_id=None, name="nobody", scopes=frozenset(), address=None)

SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, as `epochd keys create` gave it. Its scopes say what it allows: `read`, `predict`, "
        "`write` (and `read` with it), `admin` (and all of them). Nothing is asked for until a first key is made.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "The same key, as `POST /session` keeps it for the page.",
    },
}


def caller_of(request: Request) -> Caller:
    """Whoever sent this request. Without scopes where a key is asked for and none was given that is good."""
    caller: Caller = request.scope.get("state", {}).get("caller", NOBODY)
    return caller


def actor_of(request: Request) -> Actor:
    """The same, for the audit trail."""
    caller = caller_of(request)
    return Actor(
        name=caller.name,
        key_id=caller.key_id,
        address=caller.address,
        request_id=request.scope.get("state", {}).get("request_id"),
    )


class Needs:
    """A route's dependency on a scope: one of several, where it names several."""

    def __init__(self, *any_of: Scope) -> None:
        self.any_of = any_of
        self._wanted = frozenset(any_of)

    async def __call__(self, request: Request) -> None:
        """Refuse who has no such scope; raises as `require`."""
        self.require(request.scope)

    def require(self, scope: MutableMapping[str, Any]) -> None:
        """Refuse the request of this ASGI scope unless whoever sent it has one of the scopes.

        Raises:
            NotAuthenticated: no key was given that is good.
            NotPermitted: the key has none of the scopes.
            Unavailable: the keys cannot be read.
        """
        state = scope.get("state", {})
        caller: Caller = state.get("caller", NOBODY)
        if not self._wanted.isdisjoint(caller.scopes):
            return
        if caller.key_id is None:
            raise state.get("refusal") or NotAuthenticated("an API key is asked for: Authorization: Bearer KEY")
        needed = " or ".join(self.any_of)
        has = ", ".join(one for one in Scope if one in caller.scopes)
        raise NotPermitted(f"this needs the scope {needed}, and the key {caller.name!r} has {has}")


def needs(*any_of: Scope) -> Any:  # noqa: ANN401 - FastAPI's
    """The dependency of a route that is for whoever has one of these scopes."""
    return Depends(Needs(*any_of))


def needs_of(route: BaseRoute) -> Needs | None:
    """What a route needs; None where it does not say."""
    dependencies: Sequence[Dependency] = route.dependencies if isinstance(route, APIRoute) else ()
    return next((one.dependency for one in dependencies if isinstance(one.dependency, Needs)), None)


def describe(schema: dict[str, Any], routes: Sequence[BaseRoute], refusals: dict[str, Any]) -> None:
    """Say in an OpenAPI schema what each route needs, and how it refuses."""
    schema.setdefault("components", {})["securitySchemes"] = SCHEMES
    for route, found in _scoped(routes):
        for method in route.methods or ():
            operation = schema["paths"].get(route.path_format, {}).get(method.lower())
            if operation is None:
                continue
            # Any of a list's entries will do. OpenAPI 3.1 takes scopes for every kind of scheme.
            operation["security"] = [{scheme: [scope.value]} for scope in found.any_of for scheme in SCHEMES]
            operation["responses"] = dict(sorted((operation["responses"] | refusals).items()))


def _scoped(routes: Sequence[BaseRoute]) -> Iterator[tuple[APIRoute, Needs]]:
    for context in iter_route_contexts(routes):
        route = context.original_route
        found = needs_of(route)
        if found is not None and isinstance(route, APIRoute):
            yield route, found


async def _actor(request: Request) -> Actor:
    """Asynchronous, because the framework runs what is not in another thread."""
    return actor_of(request)


ActorOf = Annotated[Actor, Depends(_actor)]
