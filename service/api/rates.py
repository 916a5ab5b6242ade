"""How many requests one caller may send in some time, counted in the memory of this process.

Answers tell what is left by `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10). Imported only
where a limit is set: the library takes a third of a second.
"""

import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.addresses import caller_key
from service.api.problems import answer
from service.errors import RateLimited

__all__ = ["Limit", "RateLimits"]

FREE = ("/health/", "/v2/health/", "/assets/")
"""Probes must come through whatever else comes, and a page is made of many files."""
PREDICTIONS = ("/predict", "/v1/models/", "/v2/models/")
MOST_CALLERS = 10_000
"""Known at once. When there are more, those whose time is over are forgotten, and if need be all."""


class _Counts(Storage):
    """Counters in this process. The library's own start a thread for every request."""

    STORAGE_SCHEME = None
    base_exceptions = ValueError

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, tuple[int, float]] = {}

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, in a window that begins with the first request after the last window."""
        now = time.time()
        count, until = self._counts.get(key, (0, 0.0))
        if until <= now:
            if len(self._counts) >= MOST_CALLERS:
                self._forget(now)
            count, until = 0, now + expiry
        self._counts[key] = (count + amount, until)
        return count + amount

    def get(self, key: str) -> int:
        """The count of the present window."""
        count, until = self._counts.get(key, (0, 0.0))
        return count if until > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When the present window ends, in seconds since 1970."""
        return self._counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        """It cannot be away."""
        return True

    def reset(self) -> int:
        """Forget all."""
        found = len(self._counts)
        self._counts.clear()
        return found

    def clear(self, key: str) -> None:
        """Forget one."""
        self._counts.pop(key, None)

    def _forget(self, now: float) -> None:
        for key in [key for key, (_, until) in self._counts.items() if until <= now]:
            del self._counts[key]
        if len(self._counts) >= MOST_CALLERS:
            self._counts.clear()


class _PerCaller(RateLimitItem):
    """A rate whose counters are told apart by the caller alone: the library's keys name the rate, too, and take longer
    than all the rest.
    """

    __slots__ = ("_seconds",)

    def __init__(self, rate: RateLimitItem) -> None:
        super().__init__(rate.amount)
        self._seconds = rate.get_expiry()

    def get_expiry(self) -> int:
        """Length of a window, in seconds."""
        return self._seconds

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """The caller."""
        return str(identifiers[0])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a limit says of one more request."""

    allowed: bool
    headers: tuple[tuple[bytes, bytes], ...]
    wait: int
    """Whole seconds until there is more."""


class Limit:
    """So many requests in some time, for each caller."""

    def __init__(self, name: str, rate: str) -> None:
        """`rate` reads like `600/minute`."""
        self.name = name
        self._item = _PerCaller(parse(rate))
        self._limiter = FixedWindowRateLimiter(_Counts())
        self._text = f"{self._item.amount:,} in {self._item.get_expiry():,} seconds"
        policy = f'"{name}";q={self._item.amount};w={self._item.get_expiry()}'
        self._policy = (b"ratelimit-policy", policy.encode())

    def ask(self, who: str) -> Verdict:
        """Count one more request of a caller."""
        allowed = self._limiter.hit(self._item, who)
        resets, left = self._limiter.get_window_stats(self._item, who)
        wait = max(1, math.ceil(resets - time.time()))
        state = b'"%b";r=%d;t=%d' % (self.name.encode(), left, wait)
        return Verdict(allowed, (self._policy, (b"ratelimit", state)), wait)

    def refusal(self, verdict: Verdict) -> RateLimited:
        """The error that says so."""
        return RateLimited(
            f"more {self.name} than are allowed came from you: {self._text}. There is more in {verdict.wait:,} seconds",
            verdict.wait,
        )


class RateLimits:
    """Refuses what is more than a limit, before anything is done for it, and tells every caller what is left to them.

    Whoever has an API key is counted by it, whatever the address; everybody else by the address. Stands inside of what
    identifies the caller.
    """

    def __init__(self, app: ASGIApp, *, requests: str, predictions: str) -> None:
        """A rate that is empty is no limit. Without one of their own, predictions are requests like all others."""
        self._app = app
        self._requests = Limit("requests", requests) if requests else None
        self._predictions = Limit("predictions", predictions) if predictions else self._requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        limit = self._limit_of(scope)
        if limit is None:
            await self._app(scope, receive, send)
            return
        verdict = limit.ask(caller_key(scope))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *verdict.headers]
            await send(message)

        if verdict.allowed:
            await self._app(scope, receive, with_headers)
            return
        await answer(Request(scope), limit.refusal(verdict))(scope, receive, with_headers)

    def _limit_of(self, scope: Scope) -> Limit | None:
        if scope["type"] != "http" or scope["path"].startswith(FREE):
            return None
        if scope["method"] == "POST" and scope["path"].startswith(PREDICTIONS):
            return self._predictions
        return self._requests
