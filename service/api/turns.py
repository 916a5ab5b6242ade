"""Work that takes longer than the event loop may wait."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from service.errors import Overloaded

__all__ = ["Turns"]

Answer = TypeVar("Answer")


class Turns:
    """Runs some calls at once in threads of their own. A few more wait for their turn; the rest is refused at once,
    since an answer that comes after the client has given up costs as much as one that is read.
    """

    def __init__(self, *, at_once: int, waiting: int) -> None:
        """Take how many run at once, and how many more may wait."""
        self._limiter = CapacityLimiter(at_once)
        self._most = at_once + waiting
        self._here = 0

    async def run(self, call: Callable[..., Answer], *args: object) -> Answer:
        """What the call returns or raises, from a thread.

        Raises:
            Overloaded: too many wait already.
        """
        if self._here >= self._most:
            raise Overloaded(f"{self._here} predictions of pictures or many images wait already: try again in a moment")
        self._here += 1
        try:
            return await to_thread.run_sync(call, *args, limiter=self._limiter)
        finally:
            self._here -= 1
