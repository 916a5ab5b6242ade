"""How a parent and its trainer talk: typed messages, each a JSON frame and one frame for every field of bytes.

No pickle: a frame can carry values, never code.
"""

from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from typing import Any

import orjson
from pydantic import TypeAdapter

from service.domain.events import Alive, Checkpoint, EpochEnd, Failed, Job, Trained

__all__ = ["Ended", "Message", "Ready", "Stop", "receive", "send"]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The trainer is warm and waits for a job."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The trainer shall end this job after the epoch under way. Does nothing when it has ended."""

    experiment_id: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The job is over, with or without a model, and the trainer waits for the next."""


Message = Job | Stop | Ready | Ended | Alive | EpochEnd | Checkpoint | Trained | Failed

_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Job, Stop, Ready, Ended, Alive, EpochEnd, Checkpoint, Trained, Failed)
}


def send(connection: Connection, message: Message) -> None:
    """Write one message.

    Raises:
        OSError: the other side is gone.
    """
    name = type(message).__name__
    blobs = {f.name: v for f in fields(message) if isinstance(v := getattr(message, f.name), bytes)}
    values = _ADAPTERS[name].dump_python(message, mode="json", exclude=set(blobs))
    connection.send_bytes(orjson.dumps([name, values, list(blobs)]))
    for blob in blobs.values():
        connection.send_bytes(blob)


def receive(connection: Connection) -> Message:
    """Read one message; waits for it.

    Raises:
        EOFError: the other side is gone.
        OSError: the connection was closed.
    """
    name, values, blobs = orjson.loads(connection.recv_bytes())
    for field in blobs:
        values[field] = connection.recv_bytes()
    message: Message = _ADAPTERS[name].validate_python(values)
    return message
