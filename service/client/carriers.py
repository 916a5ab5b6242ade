"""Carrying out flows: by waiting (`Sync`), or by `await` (`Async`).

What a client or a handle can do is written once, as a method that returns a flow, under `operation` or `iteration`.
On an object with a `Sync` carrier the method returns the value itself or an iterator; on one with an `Async` carrier
it returns something to await or an asynchronous iterator.
"""

import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import anyio
import httpx

from service.client.flow import Close, Emit, End, Flow, Next, Outcome, Pause, Read, Send, Step, Stream

__all__ = ["Async", "Bound", "Sync", "iteration", "operation"]

T = TypeVar("T")
P = ParamSpec("P")


class Sync:
    """Carries out flows by waiting."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def run(self, flow: Flow[T]) -> T:
        """What a flow gives."""
        value: T = self._advance(flow, Outcome()).value
        return value

    def iterate(self, stream: Stream[T]) -> Iterator[T]:
        """What a stream gives, one after the other. What is open is closed when the iteration is left."""
        outcome = Outcome()
        while isinstance(step := self._advance(stream, outcome), Emit):
            try:
                yield step.value
                outcome = Outcome()
            except GeneratorExit as left:
                outcome = Outcome(error=left)

    def _advance(self, flow: Flow[Any] | Stream[Any], outcome: Outcome) -> Emit[Any] | End:
        while not isinstance(step := outcome.tell(flow), Emit | End):
            try:
                outcome = Outcome(self._perform(step))
            except BaseException as error:  # noqa: BLE001 - the flow decides, also about Ctrl-C
                outcome = Outcome(error=error)
        return step

    def _perform(self, step: Step) -> Any:  # noqa: ANN401 - whatever the step gives
        match step:
            case Send(request, stream):
                return self.http.send(request, stream=stream)
            case Read(response):
                return response.read()
            case Close(response):
                return response.close()
            case Pause(seconds):
                return time.sleep(seconds)
            case Next(items):
                items.begun = items.begun or items.sync()
                return next(items.begun, None)


class Async:
    """Carries out flows by `await`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def run(self, flow: Flow[T]) -> T:
        """What a flow gives."""
        value: T = (await self._advance(flow, Outcome())).value
        return value

    async def iterate(self, stream: Stream[T]) -> AsyncIterator[T]:
        """What a stream gives, one after the other. What is open is closed when the iteration is left."""
        outcome = Outcome()
        while isinstance(step := await self._advance(stream, outcome), Emit):
            try:
                yield step.value
                outcome = Outcome()
            except GeneratorExit as left:
                outcome = Outcome(error=left)

    async def _advance(self, flow: Flow[Any] | Stream[Any], outcome: Outcome) -> Emit[Any] | End:
        while not isinstance(step := outcome.tell(flow), Emit | End):
            try:
                outcome = Outcome(await self._perform(step))
            except BaseException as error:  # noqa: BLE001 - the flow decides, also about being cancelled
                outcome = Outcome(error=error)
        return step

    async def _perform(self, step: Step) -> Any:  # noqa: ANN401 - whatever the step gives
        match step:
            case Send(request, stream):
                return await self.http.send(request, stream=stream)
            case Read(response):
                return await response.aread()
            case Close(response):
                # Also for somebody who was cancelled.
                with anyio.CancelScope(shield=True):
                    return await response.aclose()
            case Pause(seconds):
                return await anyio.sleep(seconds)
            case Next(items):
                items.begun = items.begun or items.asynchronous()
                return await anext(items.begun, None)


Carrier = TypeVar("Carrier", Sync, Async)


class Bound(Generic[Carrier]):
    """Something with operations, and the carrier that carries them out."""

    _carrier: Carrier


class operation(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that gives a value."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._flow = flow
        functools.update_wrapper(self, flow)  # type: ignore[arg-type]

    @overload
    def __get__(self, of: Bound[Sync], kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, of: Bound[Async], kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, of: None, kind: type) -> Callable[Concatenate[Any, P], Flow[T]]: ...
    def __get__(self, of: Bound[Any] | None, kind: type) -> Callable[..., Any]:
        """The method of an object, as its carrier carries it out."""
        return self._flow if of is None else _carried(self._flow, of, of._carrier.run)


class iteration(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that gives values one after the other."""

    def __init__(self, stream: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        self._stream = stream
        functools.update_wrapper(self, stream)  # type: ignore[arg-type]

    @overload
    def __get__(self, of: Bound[Sync], kind: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, of: Bound[Async], kind: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, of: None, kind: type) -> Callable[Concatenate[Any, P], Stream[T]]: ...
    def __get__(self, of: Bound[Any] | None, kind: type) -> Callable[..., Any]:
        """The method of an object, as its carrier carries it out."""
        return self._stream if of is None else _carried(self._stream, of, of._carrier.iterate)


def _carried(method: Callable[..., Any], of: Bound[Any], carry: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*given: object, **named: object) -> Any:  # noqa: ANN401 - the operation's
        return carry(method(of, *given, **named))

    return call
