"""The connections of a client: those that belong to this process and, where there is one, to this event loop."""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import httpx

from service.client.addresses import TIMEOUT_SECONDS

__all__ = ["Connections", "running_loop"]

Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)

PLACE = "epochd.place"
"""The extension of a response that says where it came."""

_inherited: list[object] = []
"""What a process has of its parent's connections. Nobody may use or close it: what is written goes to the parent's
other end, TLS's goodbye too, and locks that the parent's threads held are never released here. So it is kept.
"""


class _Place(NamedTuple):
    """Where connections can be used."""

    process: int
    loop: asyncio.AbstractEventLoop | None


class Connections(Generic[Http]):
    """The connections to one service. They are made anew in a process that `fork` has made, since what one process
    asks on a socket that is shared another may read the answer to; and in another event loop, which knows them not.
    """

    def __init__(self, connect: Callable[[], Http]) -> None:
        self._connect: Callable[[], Http] = connect
        self._unused: Http | None = connect()
        self._made: dict[_Place, Http] = {}
        self.url = str(self._unused.base_url)
        """The service's address."""
        self.timeout_seconds: float = self._unused.timeout.read or TIMEOUT_SECONDS
        """How long an answer may take."""
        self.closed = False

    @property
    def http(self) -> Http:
        """Those to be used here."""
        here = self._here()
        if (http := self._made.get(here)) is None:
            self._leave(here)
            unused, self._unused = self._unused, None
            http = self._made.setdefault(here, unused or self._connect())
        return http

    def let_go(self) -> Http | None:
        """Those to be closed here, if there are any. None are used from now on."""
        self.closed = True
        here = self._here()
        self._leave(here)
        return self._made.pop(here, None)

    def own(self, response: httpx.Response) -> httpx.Response:
        """The response, which came here."""
        response.extensions[PLACE] = self._here()
        return response

    def owns(self, response: httpx.Response) -> bool:
        """Whether a response came here, and can be read and closed here."""
        return bool(response.extensions[PLACE] == self._here())

    def owned(self, response: httpx.Response, keep: object = None) -> httpx.Response:
        """The response, if it can be read here. What reads it is kept otherwise.

        Raises:
            httpx.ReadError: it came elsewhere.
        """
        if not self.owns(response):
            _inherited.append((response, keep))
            raise httpx.ReadError("it began in another process or event loop", request=response.request)
        return response

    def _here(self) -> _Place:
        return _Place(os.getpid(), self._loop())

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        return None

    def _leave(self, here: _Place) -> None:
        """Forget those that nobody can use here any more."""
        for place in list(self._made):
            if place.process != here.process:
                _inherited.append(self._made.pop(place, None))
            elif place.loop is not None and place.loop.is_closed():
                self._made.pop(place, None)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs this, if it is one of asyncio's."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
