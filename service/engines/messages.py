"""How a parent and its trainer talk: typed messages, each a JSON frame, and a frame of its own for all bytes in it.

No pickle: a frame can carry values, never code.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from typing import Any

import orjson
from pydantic import TypeAdapter

from service.domain.events import Alive, Checkpoint, EpochEnd, Failed, Job, Stopped, Trained

__all__ = ["Ended", "Lost", "Message", "Ready", "Stop", "assemble", "frames", "receive", "send"]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The trainer is warm and waits for a job."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The trainer shall end this member of its job after the epoch under way. Does nothing when it has ended."""

    experiment_id: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The job is over, with or without a model, and the trainer waits for the next."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The trainer behind this one is gone, or there is none to be had. Its text says how."""

    reason: str
    began: bool
    """Whether training had begun."""


Message = Job | Stop | Ready | Ended | Lost | Alive | EpochEnd | Checkpoint | Trained | Failed | Stopped

_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (Job, Stop, Ready, Ended, Lost, Alive, EpochEnd, Checkpoint, Trained, Failed, Stopped)
}


def send(connection: Connection, message: Message) -> None:
    """Write one message.

    Raises:
        OSError: the other side is gone.
    """
    for frame in frames(message):
        connection.send_bytes(frame)


def receive(connection: Connection) -> Message:
    """Read one message; waits for it.

    Raises:
        EOFError: the other side is gone.
        OSError: the connection was closed.
    """
    return assemble(connection.recv_bytes)


def frames(message: Message) -> list[bytes]:
    """A message as what is sent, one after the other."""
    name = type(message).__name__
    blobs = {f.name: blob for f in fields(message) if _is_bytes(blob := getattr(message, f.name))}
    values = _ADAPTERS[name].dump_python(message, mode="json", exclude=set(blobs))
    counts = {field: None if isinstance(blob, bytes) else len(blob) for field, blob in blobs.items()}
    found = [orjson.dumps([name, values, counts])]
    for blob in blobs.values():
        found += [blob] if isinstance(blob, bytes) else blob
    return found


def assemble(next_frame: Callable[[], bytes]) -> Message:
    """A message from its frames, of which it takes as many as it has."""
    name, values, counts = orjson.loads(next_frame())
    for field, count in counts.items():
        found = tuple(next_frame() for _ in range(1 if count is None else count))
        values[field] = found[0] if count is None else found
    message: Message = _ADAPTERS[name].validate_python(values)
    return message


def _is_bytes(value: object) -> bool:
    """Bytes, or a tuple of them."""
    return isinstance(value, bytes) or (isinstance(value, tuple) and any(isinstance(one, bytes) for one in value))
