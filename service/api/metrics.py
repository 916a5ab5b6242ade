"""/metrics: what the service counts, for Prometheus."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from fastapi import APIRouter, Request, Response
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from service.api.problems import responses
from service.api.security import needs
from service.domain.access import Scope
from service.domain.experiment import Status
from service.domain.worker import WorkerStatus
from service.errors import Unavailable
from service.store import counts, workers
from service.store.session import Database
from service.telemetry import metrics

__all__ = ["Census", "router"]

router = APIRouter(tags=["health"])

FRESH_SECONDS = 5.0
ENDED_FRESH_SECONDS = 60.0
"""What has ended is a long count in a large database, and changes little."""


class Census:
    """What the database knows: counted when it is asked for, and not again for some seconds, however many ask."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._families: list[Metric] = []
        self._ended: Mapping[Status, int] = {}
        self._counted_at = self._ended_at = -float("inf")

    def collect(self) -> Iterator[Metric]:
        """The metrics, as prometheus_client's registries ask for them."""
        with self._lock:
            if time.monotonic() - self._counted_at >= FRESH_SECONDS:
                self._families = self._count()
                self._counted_at = time.monotonic()
            yield from self._families

    def _count(self) -> list[Metric]:
        up = GaugeMetricFamily("epochd_database_up", "Whether the database answers: 1 or 0.", value=1)
        try:
            return [up, *self._of_database()]
        except Unavailable:
            return [GaugeMetricFamily(up.name, up.documentation, value=0)]

    def _of_database(self) -> list[Metric]:
        with self._database.read() as session:
            if time.monotonic() - self._ended_at >= ENDED_FRESH_SECONDS:
                self._ended = counts.ended(session)
                self._ended_at = time.monotonic()
            by_status = {**counts.unfinished(session), **self._ended}
            oldest = counts.oldest_queued(session).total_seconds()
            present = Counter(one.status for one in workers.every(session))
        experiments = GaugeMetricFamily(
            "epochd_experiments", "Experiments by status; those that have ended are a minute old.", labels=["status"]
        )
        for status, many in by_status.items():
            experiments.add_metric([status.value], many)
        there = GaugeMetricFamily("epochd_workers", "Workers by status.", labels=["status"])
        for known in get_args(WorkerStatus):
            there.add_metric([known], present[known])
        waits = by_status[Status.QUEUED]
        return [
            experiments,
            there,
            GaugeMetricFamily("epochd_queue_depth", "Experiments that wait for a worker.", value=waits),
            GaugeMetricFamily(
                "epochd_queue_oldest_seconds", "Seconds since the oldest that waits was queued first.", value=oldest
            ),
        ]


@router.get(
    "/metrics",
    summary="Read the service's metrics",
    dependencies=[needs(Scope.READ)],
    response_class=Response,
    responses=responses()
    | {
        200: {
            "description": "The text format of Prometheus.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
def read_metrics(request: Request) -> Response:
    """Requests, predictions, the queue, workers and training, in the text format of Prometheus or as OpenMetrics, as
    `Accept` says. All processes of this service are in it, and what the database knows of all others.
    """
    found = metrics.registry()
    found.register(request.app.state.census)
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(found), headers={"Content-Type": kind})
