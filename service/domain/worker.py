"""What is known of a worker."""

from datetime import datetime
from typing import Literal

from service.domain.experiment import Frozen

__all__ = ["Worker", "WorkerStatus"]

WorkerStatus = Literal["active", "draining", "lost"]


class Worker(Frozen):
    """A process that trains, or did."""

    id: str
    """Owner of the experiments that it has claimed."""
    host: str
    process: int
    """Its number on that host."""
    engine: str
    slots: int
    """Experiments, or groups trained as one, that it trains at once."""
    running: int
    """Experiments that it has claimed."""
    status: WorkerStatus
    """`lost`: no heartbeat for a whole lease."""
    trouble: str | None
    """What keeps it from training, if anything does."""
    version: str
    started_at: datetime
    heartbeat_at: datetime
