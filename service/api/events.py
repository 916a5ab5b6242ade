"""/experiments/{id}/events: what happens, as it happens."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from service.api.addresses import caller_key
from service.api.deps import ExperimentId, Ports, PortsOf
from service.api.keyring import Keyring
from service.api.problems import responses
from service.api.security import caller_of, needs
from service.api.streams import Streams
from service.domain.access import Scope
from service.errors import ExperimentNotFound, Unavailable
from service.store import experiments
from service.store.experiments import StoredEvent

__all__ = ["router"]

router = APIRouter(prefix="/experiments", tags=["experiments"])

OUTAGE_SECONDS = 1.0
"""How often a stream looks whether the database is back."""

LastEventId = Annotated[
    int,
    Header(ge=0, le=2**31 - 1, description="The last event that was read: the stream goes on behind it."),
]


def _existing(ports: PortsOf, experiment_id: ExperimentId) -> str:
    """Answer 404 before the stream begins: it has no status code of its own later."""
    with ports.database.read() as session:
        return experiments.get(session, experiment_id).id


async def _place(request: Request) -> AsyncIterator[None]:
    streams: Streams = request.app.state.streams
    with streams.place(caller_key(request.scope)):
        yield


@router.get(
    "/{experiment_id}/events",
    summary="Follow an experiment",
    response_class=EventSourceResponse,
    responses=responses(404),
    dependencies=[needs(Scope.READ), Depends(_place)],
)
async def follow(
    request: Request, ports: PortsOf, experiment_id: Annotated[str, Depends(_existing)], last_event_id: LastEventId = 0
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events from the first on: `status` for every change of status, `epoch` with the metrics of each
    epoch, and `done` at the end, after which the stream closes. Should the experiment be deleted before that was
    read, `deleted` is the last. While the database is away the stream waits. It ends when the key is good no more.

    Ids are the stored sequence. A client that comes back with `Last-Event-ID` misses nothing and sees nothing twice;
    one that has read everything of an experiment that has ended gets an empty stream.
    """
    keyring: Keyring = request.app.state.keyring
    caller = caller_of(request)
    with ports.news.subscribe(experiment_id) as news:
        while not ports.stopping.is_set():
            news.read = last_event_id
            if not await keyring.still_good(caller):
                return
            try:
                events, ended = await run_in_threadpool(_after, ports, experiment_id, last_event_id)
            except ExperimentNotFound:
                yield ServerSentEvent(event="deleted", id=str(last_event_id), data={"id": experiment_id})
                return
            except Unavailable:  # the stream outlives it: there is no status code left to tell of it
                await asyncio.sleep(OUTAGE_SECONDS)
                continue
            for event in events:
                last_event_id = event.sequence
                yield ServerSentEvent(event=event.type, id=str(event.sequence), data=event.data)
                if event.type == "done":
                    return
            if not events:
                if ended:
                    return
                await news.wait(ports.stopping)


def _after(ports: Ports, experiment_id: str, sequence: int) -> tuple[list[StoredEvent], bool]:
    """The events to come next and, where there are none, whether none will ever come.

    Raises:
        ExperimentNotFound: it was deleted while it was followed.
    """
    with ports.database.read() as session:
        events = experiments.events_after(session, experiment_id, sequence)
        if events:
            return events, False
        ended = experiments.get(session, experiment_id).status.terminal
        # The end and its event are written at once, but maybe between the two looks above.
        return experiments.events_after(session, experiment_id, sequence) if ended else [], ended
