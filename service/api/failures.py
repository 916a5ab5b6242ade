"""How often one address may come without a good API key, and what the log tells of bad ones."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from service.api.addresses import network_of
from service.errors import NotAuthenticated, RateLimited

if TYPE_CHECKING:
    from service.api.rates import Limit

__all__ = ["FailedKeys", "Tale"]

log = logging.getLogger("epochd.api")

TELL_SECONDS = 60
"""One address has a line in so much time, however often it comes."""
MOST_TOLD = 100
"""Addresses with a line of their own in that time. All others share one: a flood must fill neither disk nor memory."""
OTHERS = "other addresses"


class FailedKeys:
    """Counts refusals, and nothing that is served: good keys work from an address whatever else came from there, so
    that nobody can lock others out. May be used from any thread.
    """

    def __init__(self, rate: str) -> None:
        """`rate` reads like `120/minute`; empty is no limit."""
        self._rate = rate
        self._limit: Limit | None = None
        self._lock = threading.Lock()
        self._tale = Tale(time.monotonic)

    def count(self, request: Request, error: NotAuthenticated) -> RateLimited | None:
        """Count one. When there are too many, the error that says so."""
        address = request.client.host if request.client else "an unknown address"
        if self._rate:
            from service.api import rates  # whose library takes a third of a second to import: most never need it
        with self._lock:
            if error.key_id is not None:
                self._tale.add(address, error.key_id)
            if not self._rate:
                return None
            if self._limit is None:
                self._limit = rates.Limit("requests without a good API key", self._rate)
            verdict = self._limit.ask(network_of(address))
            return None if verdict.allowed else self._limit.refusal(verdict)

    def flush(self, *, all_of_it: bool = False) -> None:
        """Log what is due of bad keys, or whatever was not told yet."""
        with self._lock:
            self._tale.flush(all_of_it=all_of_it)


@dataclass(slots=True)
class _Told:
    at: float
    """When the last line was written."""
    address: str
    key_id: str
    more: int = 0
    """Since that line."""


class Tale:
    """Tells in the log where bad keys come from: the first at once, and how many more after a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def add(self, address: str, key_id: str) -> None:
        """One came, of the key with this id, or with something that is no key where that is empty."""
        network = network_of(address)
        known = self._told.get(network)
        if known is None and len(self._told) >= MOST_TOLD:
            network = address = OTHERS
            known = self._told.get(network)
        if known is not None:
            known.address, known.key_id, known.more = address, key_id, known.more + 1
            return
        self._told[network] = _Told(at=self._clock(), address=address, key_id=key_id)
        log.warning("a bad API key came from %s%s", address, f" (id {key_id})" if key_id else "")

    def flush(self, *, all_of_it: bool = False) -> None:
        """Tell of those whose minute is over, or of all."""
        now = self._clock()
        for network, told in tuple(self._told.items()):
            if now - told.at < TELL_SECONDS and not all_of_it:
                continue
            if not told.more:
                del self._told[network]
                continue
            last = f" (last id {told.key_id})" if told.key_id else ""
            log.warning("%d more bad API keys came from %s%s", told.more, told.address, last)
            told.at, told.more = now, 0
