"""What routes are given: the ports they work through, and the parts of a request that many of them read."""

import re
import threading
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request
from fastapi.exceptions import RequestValidationError

from service.api.news import News
from service.api.turns import Turns
from service.errors import ExperimentNotFound
from service.serving.predictor import Predictor
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.session import Database

__all__ = ["ExperimentId", "Ports", "PortsOf", "TraceContext", "ports_of", "prefers_csv", "refuse_repeats"]


FILTERS = frozenset({"status", "activation", "depth", "dataset", "tag"})
"""Query parameters that may be given many times."""


QUALITY = re.compile(r"[01](\.\d{0,3})?")
"""How much a client wants a media type (RFC 9110, 12.4.2)."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything outside that the API touches. `main.py` opens them."""

    settings: Settings
    database: Database
    blobs: Blobs
    predictor: Predictor
    turns: Turns
    """Where predictions run that take long."""
    news: News
    """What wakes event streams."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server begins to stop: open event streams end then."""


def ports_of(request: Request) -> Ports:
    """The ports of the app that serves this request."""
    ports: Ports = request.app.state.ports
    return ports


async def _experiment_id(
    experiment_id: Annotated[str, Path(description="An experiment's id, as `POST /experiments` gave it.")],
) -> str:
    try:
        return str(UUID(experiment_id))
    except ValueError:
        raise ExperimentNotFound("there is no such experiment: GET /experiments lists them") from None


def prefers_csv(request: Request) -> bool:
    """Whether the client would rather have CSV than JSON."""
    weights: dict[str, float] = {}
    for one in request.headers.get("accept", "").lower().split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights.setdefault(kind, float(quality) if QUALITY.fullmatch(quality) else 1)
    csv, json = weights.get("text/csv", 0), weights.get("application/json", 0)
    return csv > json or (csv == json > 0 and list(weights).index("text/csv") < list(weights).index("application/json"))


async def refuse_repeats(request: Request) -> None:
    """Refuse a query parameter that is given twice where one value is taken: the other would be ignored in silence."""
    given = request.query_params
    for name in given.keys() - FILTERS if len(given.multi_items()) > len(given) else ():
        if len(given.getlist(name)) > 1:
            fault = {"type": "repeated", "loc": ("query", name), "msg": "given more than once", "input": None}
            raise RequestValidationError([fault])


async def _trace_context(request: Request) -> str | None:
    """Declared by no parameter: `traceparent` is for whoever traces, on every route."""
    found: str | None = request.scope.get("state", {}).get("trace_context")
    return found


async def _ports(request: Request) -> Ports:
    """Asynchronous, because the framework runs what is not in another thread."""
    return ports_of(request)


TraceContext = Annotated[str | None, Depends(_trace_context)]
"""The `traceparent` of the request, to be stored with what it queues."""
PortsOf = Annotated[Ports, Depends(_ports)]
ExperimentId = Annotated[str, Depends(_experiment_id)]
