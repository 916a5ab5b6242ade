"""Following what goes on, through broken connections and restarts of the service."""

import time
from dataclasses import replace
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from service.client.core import Core
from service.client.errors import ApiError, ExperimentNotFound, NoAnswer, WaitTimeout
from service.client.flow import Close, Emit, Items, Next, Pause, Retries, Stream
from service.client.talk import passes
from service.client.values import Seen
from service.domain.experiment import EpochMetrics, Status
from service.domain.sweep import Sweep, SweepStatus

__all__ = ["follow", "watch"]

QUIET_SECONDS = 10.0
"""A stream that says nothing for so long is opened anew, where it ended: its other end may be gone without a word.
The service's own sign of life comes every 15 s, so none is needed."""
PATIENCE = 3
"""So many times more repeats than for one request, and so much longer when the service says how long: a wait outlives
a restart of the service, and a minute in which it is not asked."""
RESTART_SECONDS = 0.5
SWEEP_SECONDS = 0.5


class _Deadline:
    """When a wait is over."""

    def __init__(self, core: Core, what: str, seconds: float | None) -> None:
        self._most = core.timeout_seconds
        self._what = what
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def request(self) -> dict[str, Any]:
        """What keeps one request from lasting longer than the wait, or than any answer may take. It is not repeated
        by itself: whoever waits looks at the deadline first.

        Raises:
            WaitTimeout: there is no time.
        """
        return {"timeout": min(self._most, self.left()), "retries": Retries(times=0)}

    def left(self) -> float:
        """Seconds until then.

        Raises:
            WaitTimeout: there are none.
        """
        if self._end is None:
            return float("inf")
        left = self._end - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"{self._what} has not ended within {self._seconds:g} s; it goes on")
        return left


def follow(core: Core, experiment_id: str, *, timeout: float | None = None) -> Stream[EpochMetrics | Status]:
    """Emits every change of status (`Status`) and every epoch (`EpochMetrics`) from the first on, until the experiment
    has ended. Nothing is lost and nothing comes twice, whatever breaks in between.

    Raises:
        WaitTimeout: it has not ended in time.
        ExperimentNotFound: there is none, or it was deleted meanwhile.
        ApiError: the service does not come back.
    """
    deadline = _Deadline(core, f"experiment {experiment_id}", timeout)
    patience = _patience(core)
    last, breaks = "0", 0
    while True:
        try:
            response = yield from core.exchange(
                "GET",
                f"/experiments/{experiment_id}/events",
                stream=True,
                headers={"Accept": "text/event-stream", "Last-Event-ID": last},
                **deadline.request(),
            )
            source = EventSource(response)
            events = Items(response, source.iter_sse, source.aiter_sse)
            try:
                # httpcore looks here once for the head, which may take as long as any, and once more for the body.
                response.request.extensions["timeout"]["read"] = min(QUIET_SECONDS, deadline.left())
                while (event := (yield Next(events))) is not None:
                    if event.event == "done":
                        return
                    told = _told(core, experiment_id, event)
                    last, breaks = event.id or last, 0
                    if told is not None:
                        yield Emit(told)
                    deadline.left()
            except httpx.ReadTimeout:
                continue
            except SSEError as error:  # httpx's own, too, and it would not be another one soon
                raise core.not_epochd(f"{response.headers.get('Content-Type')}, where events belong") from error
            except httpx.RequestError as error:
                raise core.no_answer(error) from error
            finally:
                yield Close(response)
            # Either all of it had been read already, or the service stops.
            if (yield from core.seen("experiments", experiment_id, **deadline.request())).value.status.terminal:
                return
            wait = RESTART_SECONDS
        except ApiError as error:
            wait = _wait(patience, breaks, error)
            breaks += 1
        yield Pause(min(wait, deadline.left()))


def _told(core: Core, experiment_id: str, event: ServerSentEvent) -> EpochMetrics | Status | None:
    """What an event says; None for one that this client does not know.

    Raises:
        ExperimentNotFound: that the experiment is gone.
    """
    try:
        data = event.json()
    except (ValueError, RecursionError) as error:
        raise core.no_answer(error) from error
    match event.event:
        case "epoch":
            return core.value(EpochMetrics, data)
        case "status":
            return _status(data)
        case "deleted":
            raise ExperimentNotFound(f"experiment {experiment_id} was deleted", status=404)
    return None


def _status(data: dict[str, Any]) -> Status:
    try:
        return Status(data["status"])
    except (KeyError, TypeError, ValueError) as error:
        raise ApiError(f"the service tells of a status that this version of epochd does not know: {data}") from error


def watch(core: Core, sweep_id: str, *, timeout: float | None = None) -> Stream[Seen[Sweep]]:
    """Emits a sweep as it is (`Seen[Sweep]`), again and again, the last time when all of it has ended. Goes on when
    the service is away for a while.

    Raises:
        WaitTimeout: it has not ended in time.
        ApiError: there is no such sweep, or the service does not come back.
    """
    deadline = _Deadline(core, f"sweep {sweep_id}", timeout)
    patience = _patience(core)
    breaks = 0
    while True:
        try:
            seen = yield from core.seen("sweeps", sweep_id, **deadline.request())
        except ApiError as error:
            wait = _wait(patience, breaks, error)
            breaks += 1
        else:
            yield Emit(seen)
            if seen.value.status is SweepStatus.FINISHED:
                return
            wait, breaks = SWEEP_SECONDS, 0
        yield Pause(min(wait, deadline.left()))


def _patience(core: Core) -> Retries:
    return replace(core.retries, times=core.retries.times * PATIENCE)


def _wait(patience: Retries, breaks: int, error: ApiError) -> float:
    """How long to wait after so many breaks and this one, in seconds. Raises the error when that is of no use."""
    wait = patience.seconds(breaks) if isinstance(error, NoAnswer) or passes(error) else None
    if wait is not None and error.retry_after is not None:
        wait = error.retry_after if error.retry_after <= patience.most_seconds * PATIENCE else None
    if wait is None:
        raise error
    return wait
