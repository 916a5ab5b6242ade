"""Carrying out flows: by waiting (`Sync`), or by `await` (`Async`).

What a client or a handle can do is written once, as a method that returns a flow, under `operation` or `iteration`.
On an object with a `Sync` carrier the method returns the value itself or an iterator; on one with an `Async` carrier
it returns something to await or an asynchronous iterator.
"""

import asyncio
import functools
import time
import types
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, overload

import anyio
import httpx

from service.client import signatures
from service.client.connections import Connections, running_loop
from service.client.flow import Close, Emit, End, Flow, Next, Outcome, Pause, Read, Send, Step, Stream

__all__ = ["Async", "Bound", "Sync", "iteration", "make_methods", "operation"]

T = TypeVar("T")
P = ParamSpec("P")


class Sync(Connections[httpx.Client]):
    """Carries out flows by waiting."""

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
                return self.own(self.http.send(request, stream=stream))
            case Read(response):
                return self.owned(response).read()
            case Close(response):
                return response.close() if self.owns(response) else None
            case Pause(seconds):
                return time.sleep(seconds)
            case Next(items):
                self.owned(items.response, items)
                items.begun = items.begun or items.sync()
                return next(items.begun, None)


class Async(Connections[httpx.AsyncClient]):
    """Carries out flows by `await`."""

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        return running_loop()

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
                return self.own(await self.http.send(request, stream=stream))
            case Read(response):
                return await self.owned(response).aread()
            case Close(response):
                if not self.owns(response):
                    return None
                # Also for somebody who was cancelled.
                with anyio.CancelScope(shield=True):
                    return await response.aclose()
            case Pause(seconds):
                return await anyio.sleep(seconds)
            case Next(items):
                self.owned(items.response, items)
                items.begun = items.begun or items.asynchronous()
                return await anext(items.begun, None)


Carrier = TypeVar("Carrier", Sync, Async)


class Bound(Generic[Carrier]):
    """Something with operations, and the carrier that carries them out."""

    _kind: ClassVar[type | None] = None
    """The kind of carrier that all of this class have, where it is one."""
    _carrier: Carrier


class _Method(ABC):
    """A method whose text is a flow. Each kind of carrier has a function of its own, which carries the flow out."""

    every: ClassVar[list["_Method"]] = []

    def __init__(self, flow: Callable[..., Any]) -> None:
        self.every.append(self)
        self._flow = flow
        self._functions: dict[type | None, Callable[..., Any]] = {}
        functools.update_wrapper(self, flow)  # type: ignore[arg-type]

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """A function's: `create_autospec` leaves `self` out of nothing else that stands in a class."""
        return types.FunctionType

    @property
    def __code__(self) -> types.CodeType:
        """What `inspect` asks of whatever is a function."""
        code: types.CodeType = self._carried(None).__code__
        return code

    def make(self) -> None:
        """Make the functions that objects have."""
        for kind in (Sync, Async):
            self._function(kind)

    def _of(self, of: Bound[Any] | None, kind: type) -> Callable[..., Any]:
        """The method of an object, or the function that a class has."""
        if of is None:
            return self._function(getattr(kind, "_kind", None))
        return types.MethodType(self._function(type(of._carrier)), of)

    def _function(self, kind: type | None) -> Callable[..., Any]:
        """The function for a kind of carrier; None for what may have either."""
        if kind not in self._functions:
            seen = signatures.seen_as(self._flow, kind, functools.partial(self._returned, kind))
            self._functions[kind] = signatures.dressed(self._carried(kind), self._flow, seen)
        return self._functions[kind]

    @abstractmethod
    def _carried(self, kind: type | None, /) -> Callable[..., Any]:
        """What carries the flow out on a carrier of this kind."""

    @abstractmethod
    def _returned(self, kind: type | None, value: Any) -> Any:  # noqa: ANN401 - types of any kind
        """The type that is returned, for that of what the flow gives."""


class operation(_Method, Generic[P, T]):  # noqa: N801 - a decorator
    """A method that gives a value."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        super().__init__(flow)

    @overload
    def __get__(self, of: Bound[Sync], kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, of: Bound[Async], kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, of: None, kind: type[Bound[Sync]]) -> Callable[Concatenate[Any, P], T]: ...
    @overload
    def __get__(self, of: None, kind: type[Bound[Async]]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
    def __get__(self, of: Bound[Any] | None, kind: type) -> Callable[..., Any]:
        """The method of an object, as its carrier carries it out; of a class, the function."""
        return self._of(of, kind)

    def _carried(self, kind: type | None, /) -> Callable[..., Any]:
        flow = self._flow

        def call(of: Bound[Any], /, *given: object, **named: object) -> Any:  # noqa: ANN401 - the operation's
            return of._carrier.run(flow(of, *given, **named))

        async def awaited(of: Bound[Any], /, *given: object, **named: object) -> Any:  # noqa: ANN401 - the operation's
            return await of._carrier.run(flow(of, *given, **named))

        return awaited if kind is Async else call

    def _returned(self, kind: type | None, value: Any) -> Any:  # noqa: ANN401 - see above
        return Coroutine[Any, Any, value] if kind is Async else value


class iteration(_Method, Generic[P, T]):  # noqa: N801 - a decorator
    """A method that gives values one after the other."""

    def __init__(self, stream: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        super().__init__(stream)

    @overload
    def __get__(self, of: Bound[Sync], kind: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, of: Bound[Async], kind: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, of: None, kind: type[Bound[Sync]]) -> Callable[Concatenate[Any, P], Iterator[T]]: ...
    @overload
    def __get__(self, of: None, kind: type[Bound[Async]]) -> Callable[Concatenate[Any, P], AsyncIterator[T]]: ...
    def __get__(self, of: Bound[Any] | None, kind: type) -> Callable[..., Any]:
        """The method of an object, as its carrier carries it out; of a class, the function."""
        return self._of(of, kind)

    def _carried(self, _: type | None, /) -> Callable[..., Any]:
        stream = self._flow

        def call(of: Bound[Any], /, *given: object, **named: object) -> Any:  # noqa: ANN401 - the operation's
            return of._carrier.iterate(stream(of, *given, **named))

        return call

    def _returned(self, kind: type | None, value: Any) -> Any:  # noqa: ANN401 - see above
        return AsyncIterator[value] if kind is Async else Iterator[value]


def make_methods() -> None:
    """Make every method, once the types that they name are there. Else a method would be made when it is first called:
    and Python 3.11 crashes when Ctrl-C, or another signal whose handler raises, comes while it looks at types.
    """
    for one in _Method.every:
        one.make()
