"""Probes for whoever runs the service."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.api.deps import PortsOf
from service.api.problems import responses
from service.store import schema

__all__ = ["router"]

router = APIRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    """The service answers."""

    status: Literal["ok"] = "ok"


@router.get("/live", summary="Is the process alive?")
async def live() -> Health:
    """Always 200 while the process can answer at all."""
    return Health()


@router.get("/ready", summary="Can it serve?", responses=responses())
def ready(ports: PortsOf) -> Health:
    """200 when the database can be reached and has the schema of this version, 503 otherwise."""
    schema.require_current(ports.database)
    return Health()
