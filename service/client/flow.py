"""Conversations with a service, apart from how they are carried out.

A flow is a generator: it yields what shall be done next (a `Step`) and is sent what came of it. So requests, retries
and streams are written once, and `carriers.py` carries out their steps in two ways: waiting, and by `await`.
"""

import random
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import httpx

__all__ = [
    "Close",
    "Emit",
    "End",
    "Flow",
    "Items",
    "Next",
    "Outcome",
    "Pause",
    "Read",
    "Retries",
    "Send",
    "Step",
    "Stream",
    "asked_seconds",
    "through",
]

T = TypeVar("T")
U = TypeVar("U")

DOUBLINGS = 1000
"""More would be no float any more, and any wait is the longest long before."""


@dataclass(frozen=True)
class Send:
    """Send a request. Gives its response, of which a stream is not read yet."""

    request: httpx.Request
    stream: bool = False


@dataclass(frozen=True)
class Read:
    """Read the rest of a streamed response."""

    response: httpx.Response


@dataclass(frozen=True)
class Close:
    """Close a streamed response."""

    response: httpx.Response


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass
class Items:
    """What a streamed response is made of, for either kind of client."""

    response: httpx.Response
    sync: Callable[[], Iterator[Any]]
    asynchronous: Callable[[], AsyncIterator[Any]]
    begun: Any = None
    """The iterator, once there is one."""


@dataclass(frozen=True)
class Next:
    """Read the next item. Gives None at the end."""

    items: Items


@dataclass(frozen=True)
class Emit(Generic[T]):
    """Hand a value to whoever iterates the stream."""

    value: T


@dataclass(frozen=True)
class End:
    """The flow is over, with this result."""

    value: Any


Step = Send | Read | Close | Pause | Next
Flow = Generator[Step, Any, T]
"""Gives one value, at its end."""
Stream = Generator[Step | Emit[T], Any, None]
"""Gives values one after the other."""


@dataclass(frozen=True)
class Outcome:
    """What came of a step."""

    value: Any = None
    error: BaseException | None = None

    def tell(self, flow: Flow[Any] | Stream[Any]) -> Step | Emit[Any] | End:
        """Go on with the flow, up to its next step. Raises what the flow raises."""
        try:
            return flow.send(self.value) if self.error is None else flow.throw(self.error)
        except StopIteration as end:
            return End(end.value)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often, and after how long, a request is sent again that may be. What the service asks for by `Retry-After`
    goes first; else the wait doubles each time, and a random part of it is left out, so that many clients do not come
    back at once.
    """

    times: int = 4
    """Most repeats of one request; 0 for none."""
    first_seconds: float = 0.5
    """Longest wait before the first repeat."""
    most_seconds: float = 30.0
    """Longest wait of all. A service that asks for a longer one is not asked again."""

    def seconds(self, repeats: int, response: httpx.Response | None = None) -> float | None:
        """How long to wait after so many repeats and this answer; None to give up."""
        if repeats >= self.times:
            return None
        asked = None if response is None else asked_seconds(response)
        if asked is not None:
            return asked if asked <= self.most_seconds else None
        longest: float = min(self.most_seconds, self.first_seconds * 2.0 ** min(repeats, DOUBLINGS))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def asked_seconds(response: httpx.Response) -> float | None:
    """How long a service asks to wait; None when it asks for nothing, or names a date."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else None


@overload
def through(stream: Stream[T], turn: Callable[[T], None]) -> Flow[None]: ...
@overload
def through(stream: Stream[T], turn: Callable[[T], Emit[U] | None]) -> Stream[U]: ...
def through(stream: Stream[T], turn: Callable[[T], Emit[U] | None]) -> Stream[U]:
    """Go through a stream. Each of its values is given to a function; what that returns is emitted instead, if it
    returns anything.
    """
    outcome = Outcome()
    while not isinstance(step := outcome.tell(stream), End):
        try:
            passed = turn(step.value) if isinstance(step, Emit) else step
            outcome = Outcome(None if passed is None else (yield passed))
        except BaseException as error:  # noqa: BLE001 - the stream decides, also about Ctrl-C
            outcome = Outcome(error=error)
