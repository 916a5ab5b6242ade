"""What is counted and measured, for Prometheus. Every metric of the service's own doing is defined here.

Names follow https://prometheus.io/docs/practices/naming/. Series whose labels are known begin at zero, so that a rate
over the first event is seen.
"""

import threading
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.errors import Unavailable
from service.telemetry.folder import folder

__all__ = [
    "ATTEMPTS_BEGUN",
    "ATTEMPTS_ENDED",
    "CACHED_MODELS",
    "CACHE_MISSES",
    "EPOCHS",
    "LEASES_EXPIRED",
    "LEASES_LOST",
    "OUTCOMES",
    "REFUSED",
    "REGISTRY",
    "TRAINERS_STARTED",
    "TRAINER_DEATHS",
    "TRAINING_SECONDS",
    "cache_hit",
    "flush",
    "forget_process",
    "predicted",
    "registry",
    "requested",
]

T = TypeVar("T")

REGISTRY = CollectorRegistry()

FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
SLOW = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OUTCOMES = ("succeeded", "failed", "cancelled", "queued", "lost")
"""How an attempt ends: as its experiment does, back in the queue, or as somebody else's."""
REFUSALS = ("429", "503")

REQUESTS = Histogram(
    "epochd_http_request_duration_seconds",
    "Seconds from a request's head to the end of its answer.",
    ["method", "route", "status"],
    buckets=SLOW,
    registry=REGISTRY,
)
REFUSED = Counter(
    "epochd_http_requests_refused",
    "Requests that were refused because there was too much to do, or something was away.",
    ["status"],
    registry=REGISTRY,
)
PREDICTIONS = Histogram(
    "epochd_prediction_duration_seconds",
    "Seconds that a model took for the images of one request.",
    buckets=FAST,
    registry=REGISTRY,
)
IMAGES = Counter("epochd_predicted_images", "Images that models have read.", registry=REGISTRY)
CACHE_HITS = Counter("epochd_model_cache_hits", "Looks for a model that was ready.", registry=REGISTRY)
CACHE_MISSES = Counter("epochd_model_cache_misses", "Looks for a model that had to be loaded.", registry=REGISTRY)
CACHED_MODELS = Gauge(
    "epochd_model_cache_models", "Models that are ready.", multiprocess_mode="livesum", registry=REGISTRY
)

ATTEMPTS_BEGUN = Counter("epochd_attempts_begun", "Attempts at experiments that workers began.", registry=REGISTRY)
ATTEMPTS_ENDED = Counter(
    "epochd_attempts_ended",
    "Attempts that ended: as the experiment did, back in the queue, or lost to another attempt.",
    ["outcome"],
    registry=REGISTRY,
)
EPOCHS = Counter("epochd_epochs", "Epochs that were recorded, of each experiment by itself.", registry=REGISTRY)
TRAINING_SECONDS = Counter(
    "epochd_training_seconds", "Seconds that trainers computed for recorded epochs.", registry=REGISTRY
)
LEASES_EXPIRED = Counter(
    "epochd_leases_expired", "Experiments taken back because their worker no longer renewed them.", registry=REGISTRY
)
LEASES_LOST = Counter("epochd_leases_lost", "Attempts that a worker lost while it trained them.", registry=REGISTRY)
TRAINERS_STARTED = Counter(
    "epochd_trainers_started", "Trainer processes, or drivers of a Ray cluster, that were started.", registry=REGISTRY
)
TRAINER_DEATHS = Counter(
    "epochd_trainer_deaths", "Trainers that died, stalled or did not start, by no wish of ours.", registry=REGISTRY
)

for _status in REFUSALS:
    REFUSED.labels(_status)
for _outcome in OUTCOMES:
    ATTEMPTS_ENDED.labels(_outcome)

_requests: deque[tuple[tuple[str, str, str], float]] = deque()
_predictions: deque[tuple[int, float]] = deque()
_hits: deque[None] = deque()
_flushing = threading.Lock()


def requested(method: str, route: str, status: str, seconds: float) -> None:
    """A request was answered."""
    _requests.append(((method, route, status), seconds))
    if status in REFUSALS:
        REFUSED.labels(status).inc()


def predicted(images: int, seconds: float) -> None:
    """A model has read some images."""
    _predictions.append((images, seconds))


def cache_hit() -> None:
    """A model was ready."""
    _hits.append(None)


def flush() -> None:
    """Add to the metrics what has waited. One observation costs as much as a tenth of a prediction, in the memory that
    processes share; many at once cost a fraction of that.
    """
    with _flushing:
        by_labels: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for labels, seconds in _taken(_requests):
            by_labels[labels].append(seconds)
        for labels, many in by_labels.items():
            _observe(REQUESTS.labels(*labels), many)
        predictions = list(_taken(_predictions))
        if predictions:
            _observe(PREDICTIONS, [seconds for _, seconds in predictions])
            IMAGES.inc(sum(images for images, _ in predictions))
        hits = sum(1 for _ in _taken(_hits))
        if hits:
            CACHE_HITS.inc(hits)


def registry() -> CollectorRegistry:
    """What `/metrics` shows of this process, and of those with which it shares a folder.

    Raises:
        Unavailable: somebody has removed the folder.
    """
    flush()
    found = CollectorRegistry()
    path = folder()
    if path is None:
        found.register(REGISTRY)
    elif not path.is_dir():
        raise Unavailable("the temporary folder of the metrics was removed: restart the service to have them again")
    else:
        MultiProcessCollector(found, path=str(path))  # type: ignore[no-untyped-call]
    return found


def forget_process(pid: int) -> None:
    """A process that shared our folder is gone: what it counted stays, what it held does not."""
    path = folder()
    if path is not None:
        mark_process_dead(pid, path=str(path))  # type: ignore[no-untyped-call]


def _taken(waiting: deque[T]) -> Iterable[T]:
    for _ in range(len(waiting)):
        yield waiting.popleft()


def _observe(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe many at once, which the library has no call for."""
    bounds = histogram._upper_bounds
    counts = [0] * len(bounds)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    histogram._sum.inc(sum(values))
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
