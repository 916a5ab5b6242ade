"""The API keys as a process knows them: a copy that is never older than a few seconds, so that no request asks the
database who sent it.
"""

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool

from service.domain.access import EVERYTHING, ApiKey, Caller
from service.errors import EpochdError, NotAuthenticated
from service.store import keys
from service.store.keys import Kept
from service.store.session import Database

__all__ = ["Keyring"]

log = logging.getLogger("epochd.api")

FRESH_SECONDS = 2.0
"""Younger than this, the copy is used as it is."""
STALE_SECONDS = 4.0
"""Between the two it is used while another is read; older than this, another is waited for."""
RENEWED_SECONDS = 0.25
"""For a key that the copy does not have another is read, at most this often, whoever asks."""
WAIT_SECONDS = 1.0
"""For so long, unless there is none at all. Then the old one is used: a database that is away takes no revocation."""
MOST_CALLERS = 10_000
"""Addresses for which callers are kept ready."""


class Keyring:
    """Knows who has which key. For one event loop; `close` it there."""

    def __init__(self, database: Database) -> None:
        """Read nothing yet."""
        self._database = database
        self._kept: dict[str, Kept] | None = None
        self._asks = False
        self._read_at = self._begun_at = -STALE_SECONDS
        self._reading: asyncio.Task[None] | None = None
        self._slow = False
        self._touching: asyncio.Task[None] | None = None
        # By what was sent and from where, with the moment from which it is no good: forgotten when the keys change.
        self._callers: dict[tuple[str | None, str | None], tuple[Caller, float | None]] = {}
        self._touched: dict[str, float] = {}
        self._used: set[str] = set()

    @property
    def stale(self) -> bool:
        """Whether `refresh` is due."""
        return time.monotonic() - self._read_at > FRESH_SECONDS

    @property
    def asks(self) -> bool:
        """Whether a key was ever made, so that keys are asked for. Not before `refresh`. A process that has seen one
        asks for as long as it lives, even if somebody empties the table.
        """
        return self._asks

    async def refresh(self) -> None:
        """Have a copy of the keys that is young enough, or the youngest there can be.

        Raises:
            Unavailable: there is none, and the database is away.
        """
        reading = self._begin()
        if self._kept is None:
            await asyncio.shield(reading)
        elif time.monotonic() - self._read_at > STALE_SECONDS and not self._slow:
            _, late = await asyncio.wait((reading,), timeout=WAIT_SECONDS)
            self._slow = self._slow or bool(late)  # nobody else waits for it

    def _begin(self) -> asyncio.Task[None]:
        """Read the keys, unless they are being read."""
        if self._reading is None or self._reading.done():
            self._reading, self._slow, self._begun_at = asyncio.create_task(self._read()), False, time.monotonic()
            self._reading.add_done_callback(_look_at)
        return self._reading

    async def _renew(self) -> None:
        """Have a copy whose reading has begun after this was called, or wait no longer for one."""
        asked = time.monotonic()
        if self._reading is not None:  # it may have begun before the key was made
            await asyncio.wait((self._reading,), timeout=WAIT_SECONDS)
        await asyncio.sleep(self._begun_at + RENEWED_SECONDS - time.monotonic())
        if self._begun_at < asked:
            self._begin()
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=WAIT_SECONDS)

    async def _read(self) -> None:
        try:
            found = await run_in_threadpool(self._all)
        except EpochdError as error:
            if self._kept is None:
                raise
            log.warning("the API keys cannot be read: those known before are used (%s)", error)
            self._read_at = time.monotonic()  # else every request would wait for the database
            return
        if found != self._kept:
            self._callers.clear()
        self._kept, self._read_at = found, time.monotonic()
        self._asks = self._asks or bool(found)

    def _all(self) -> dict[str, Kept]:
        with self._database.read() as session:
            return {one.key.id: one for one in keys.kept(session)}

    def anonymous(self, address: str | None) -> Caller:
        """Everybody, while no key is asked for."""
        known = self._callers.get((None, address))
        if known is not None:
            return known[0]
        return self._remember(None, Caller(key_id=None, name="anonymous", scopes=EVERYTHING, address=address), None)

    async def meet(self, text: str, address: str | None) -> Caller:
        """Whoever has this token, which may be of a key that was made a moment ago.

        Raises:
            NotAuthenticated: it is none, or its key is revoked or expired.
        """
        try:
            return self._caller(text, address)
        except NotAuthenticated:
            given = keys.token(text)
            if given is None or given.id in (self._kept or {}):
                raise
        await self._renew()
        return self._caller(text, address)

    def _caller(self, text: str, address: str | None) -> Caller:
        known = self._callers.get((text, address))
        if known is not None:
            caller, until = known
            if until is None or time.time() < until:
                self._touch(caller.key_id)
                return caller
        key = self.key(text)
        caller = Caller(key_id=key.id, name=key.name, scopes=key.allows, address=address)
        return self._remember(text, caller, key.expires_at.timestamp() if key.expires_at else None)

    def key(self, text: str) -> ApiKey:
        """The key with this token, which counts as used.

        Raises:
            NotAuthenticated: it is none, or its key is revoked or expired.
        """
        given = keys.token(text)
        found = (self._kept or {}).get(given.id) if given else None
        if given is None or not keys.matches(given, found) or found is None:
            raise NotAuthenticated("the API key is not known here", given.id if given else "")
        if found.key.revoked_at is not None or found.key.expires_at is not None:
            refusal = found.key.refusal(datetime.now(UTC))
            if refusal is not None:
                raise NotAuthenticated(f"the API key {found.key.name!r} is {refusal}", given.id)
        self._touch(found.key.id)
        return found.key

    async def still_good(self, caller: Caller) -> bool:
        """Whether whoever began something long may go on with it."""
        if self.stale:
            with contextlib.suppress(EpochdError):
                await self.refresh()
        if caller.key_id is None:
            return not self.asks
        found = (self._kept or {}).get(caller.key_id)
        return found is not None and found.key.refusal(datetime.now(UTC)) is None

    def _remember(self, text: str | None, caller: Caller, until: float | None) -> Caller:
        if len(self._callers) >= MOST_CALLERS:
            self._callers.clear()
        self._callers[text, caller.address] = caller, until
        return caller

    def _touch(self, identity: str | None) -> None:
        now = time.monotonic()
        if identity is None or now - self._touched.get(identity, -keys.TOUCH_SECONDS) < keys.TOUCH_SECONDS:
            return
        self._touched[identity] = now
        self._used.add(identity)
        if self._touching is None or self._touching.done():
            self._touching = asyncio.create_task(self._write_uses())

    async def _write_uses(self) -> None:
        while self._used:
            used, self._used = self._used, set()
            try:
                await run_in_threadpool(self._write, used)
            except EpochdError as error:
                log.warning("when keys were last used cannot be written: %s", error)

    def _write(self, used: set[str]) -> None:
        with self._database.write() as session:
            keys.touch(session, used)

    async def close(self) -> None:
        """Wait for what is under way."""
        for task in (self._reading, self._touching):
            if task is not None:
                with contextlib.suppress(EpochdError):
                    await task


def _look_at(task: asyncio.Task[None]) -> None:
    """Whoever waited may be gone, and asyncio complains of an error that nobody looked at."""
    if not task.cancelled():
        task.exception()
