"""What routes are given: the ports they work through, and the parts of a request that many of them read."""

import threading
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request
from fastapi.exceptions import RequestValidationError

from service.api.turns import Turns
from service.errors import ExperimentNotFound
from service.serving.predictor import Predictor
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.session import Database

__all__ = ["ExperimentId", "Ports", "PortsOf", "ports_of", "prefers_csv", "refuse_repeats"]


FILTERS = frozenset({"status", "activation", "depth", "dataset", "tag"})
"""Query parameters that may be given many times."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything outside that the API touches. `main.py` opens them."""

    settings: Settings
    database: Database
    blobs: Blobs
    predictor: Predictor
    turns: Turns
    """Where predictions run that take long."""
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
    kinds = [kind.split(";")[0].strip() for kind in request.headers.get("accept", "").lower().split(",")]
    first = next((kind for kind in kinds if kind in {"text/csv", "application/json"}), None)
    return first == "text/csv"


async def refuse_repeats(request: Request) -> None:
    """Refuse a query parameter that is given twice where one value is taken: the other would be ignored in silence."""
    given = request.query_params
    for name in given.keys() - FILTERS if len(given.multi_items()) > len(given) else ():
        if len(given.getlist(name)) > 1:
            fault = {"type": "repeated", "loc": ("query", name), "msg": "given more than once", "input": None}
            raise RequestValidationError([fault])


async def _ports(request: Request) -> Ports:
    """Asynchronous, because the framework runs what is not in another thread."""
    return ports_of(request)


PortsOf = Annotated[Ports, Depends(_ports)]
ExperimentId = Annotated[str, Depends(_experiment_id)]
