"""/workers: who trains."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import PortsOf
from service.api.problems import responses
from service.api.security import needs
from service.domain.access import Scope
from service.domain.worker import WorkerStatus
from service.store import workers

__all__ = ["router"]

router = APIRouter(tags=["workers"])


class WorkerAnswer(BaseModel):
    """A process that trains."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(description="Names it in the service's logs.")
    host: str
    process: int = Field(description="Its process number on that host.")
    engine: str = Field(description="Where it trains: `local` or `ray`.")
    slots: int = Field(description="Trainings at once.")
    running: int = Field(description="Experiments that it has claimed; several may be trained as one.")
    status: WorkerStatus = Field(description="`lost` after a whole lease without a heartbeat.")
    trouble: str | None = Field(description="What keeps it from training; null when nothing does.")
    version: str = Field(description="Of epochd.")
    started_at: datetime
    heartbeat_at: datetime


class WorkerList(BaseModel):
    """Every worker."""

    data: list[WorkerAnswer]


@router.get("/workers", summary="List workers", responses=responses(), dependencies=[needs(Scope.READ)])
def list_workers(ports: PortsOf) -> WorkerList:
    """The workers that are there, and for a day those that went without a word. The longest there comes first."""
    with ports.database.read() as session:
        return WorkerList(data=[WorkerAnswer.model_validate(one) for one in workers.every(session)])
