"""The worker: claim, train, record, finish; renew leases meanwhile; give everything back when it must stop."""

import contextlib
import functools
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from importlib.metadata import version

from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.engines.base import Engine, Slot, TrainerDied
from service.errors import LeaseLost, Unavailable
from service.settings import Settings
from service.store import queue, workers
from service.store.blobs import Blobs
from service.store.calls import Calls
from service.store.queue import Claim
from service.store.session import Database
from service.telemetry import logs, metrics
from service.worker.attempts import Attempt, Training
from service.worker.bell import Bell
from service.worker.records import RETRY_SECONDS, Records

__all__ = ["Worker"]

log = logging.getLogger("epochd.worker")

TICK_SECONDS = 0.25
"""How often the supervisor looks for cancels and lost leases. A call of the database may make it look at once."""
CALLED_TICK_SECONDS = 2.0
CALLED_POLL_SECONDS = 5.0
"""How often, at least, where the database calls: a call may be lost."""
TELL_SECONDS = 10.0


def _now() -> float:
    """Seconds that pass while the machine sleeps, too, where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Worker:
    """Trains queued experiments, `slots` at a time, until it is drained."""

    def __init__(self, *, database: Database, blobs: Blobs, engine: Engine, settings: Settings) -> None:
        self._database = database
        self._engine = engine
        self._settings = settings
        self._owner = f"{socket.gethostname()[:20]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._draining = threading.Event()
        self._records = Records(database=database, blobs=blobs, settings=settings, draining=self._draining)
        self._bell = Bell()
        self._calls = Calls(database, self._bell.ring)
        self._slots: list[Slot] = []
        self._trouble: dict[Slot, str] = {}
        self._cut_off_at = self._told_at = -math.inf
        self._seen_at = _now()

    def drain(self) -> None:
        """Claim nothing more and give running work back. Returns at once; `run` returns when all is given back."""
        self._draining.set()
        self._bell.ring()

    def run(self) -> None:
        """Work until drained. Leaves no process behind."""
        self._seen_at = _now()
        self._slots = [self._engine.slot() for _ in range(self._settings.slots)]
        threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"slot-{number}")
            for number, slot in enumerate(self._slots, 1)
        ]
        logs.of_process(worker_id=self._owner)
        self._calls.start()
        for thread in threads:
            thread.start()
        log.info("worker %s trains %d at once", self._owner, len(threads))
        try:
            self._supervise()
        finally:
            self._stop(threads)
            self._calls.close()
        log.info("worker %s has stopped", self._owner)

    # Supervising: one thread keeps the leases, and carries cancels and losses to the trainers.

    def _supervise(self) -> None:
        beat_at, heard = 0.0, 0
        while not self._draining.is_set():
            heard = self._bell.wait(min(self._tick, max(beat_at - time.monotonic(), 0)), heard)
            attempts = set(self._records.supervised)  # before the look: what is claimed after it cannot be missed in it
            beat = time.monotonic() >= beat_at
            try:
                statuses = self._beat(attempts) if beat else self._look(attempts)
            except Unavailable as error:
                self._cut_off(error)
                continue
            self._saw()
            if beat:
                beat_at = time.monotonic() + self._settings.lease_seconds / 3
            self._release_expired()
            for attempt in attempts & self._records.supervised:
                status = statuses.get(attempt.token)
                if status is None:
                    attempt.lose()
                elif status is Status.CANCELLING:
                    attempt.cancel(self._settings.cancel_grace_seconds)

    def _saw(self) -> None:
        """The database has answered. After a long silence, as of a machine that slept, maybe nobody has renewed."""
        if _now() - self._seen_at > self._patience:
            self._cut_off_at = _now()
        self._seen_at = _now()

    def _release_expired(self) -> None:
        """Take back what dead workers left. Not a slot's work: all of them may be busy for hours."""
        try:
            with self._database.read() as session:
                expired = queue.has_expired(session)
            if expired and self._others_could_renew():
                with self._database.write() as session:
                    released = queue.release_expired(session, max_attempts=self._settings.max_attempts)
                metrics.LEASES_EXPIRED.inc(released)
                if released:
                    log.warning("took back %d experiments of workers that send no heartbeat", released)
        except Unavailable as error:
            self._cut_off(error)

    def _beat(self, attempts: set[Attempt]) -> dict[tuple[str, int], Status]:
        with self._database.write() as session:
            self._tell_of_itself(session)
            if not attempts:
                return {}
            return dict(
                queue.heartbeat(
                    session,
                    owner=self._owner,
                    experiment_ids=[attempt.claim.experiment_id for attempt in attempts],
                    lease_seconds=self._settings.lease_seconds,
                )
            )

    def _tell_of_itself(self, session: Session) -> None:
        workers.beat(
            session,
            self._owner,
            lease_seconds=self._settings.lease_seconds,
            trouble=next(iter(self._trouble.values()), None),
            host=socket.gethostname(),
            process=os.getpid(),
            engine=self._settings.engine,
            slots=self._settings.slots,
            version=version("epochd"),
            draining=self._draining.is_set(),
        )

    def _look(self, attempts: set[Attempt]) -> dict[tuple[str, int], Status]:
        if not attempts:
            return {}
        with self._database.read() as session:
            return dict(queue.owned(session, owner=self._owner))

    def _stop(self, threads: list[threading.Thread]) -> None:
        self._draining.set()
        log.info("worker %s stops: running work is given back", self._owner)
        self._last_words(self._tell_of_itself)
        deadline = time.monotonic() + self._settings.drain_seconds
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            for slot in self._slots:  # again and again: a job may just have begun
                slot.stop()
            for thread in threads:
                thread.join(TICK_SECONDS)
        for slot in self._slots:
            slot.kill()
        for thread in threads:
            thread.join()
        self._last_words(lambda session: workers.leave(session, self._owner))

    def _last_words(self, say: Callable[[Session], None]) -> None:
        """For people to read: not worth waiting for."""
        with contextlib.suppress(Unavailable), self._database.write() as session:
            say(session)

    # Working: one thread a slot.

    def _work(self, slot: Slot) -> None:
        try:
            while not self._draining.is_set():
                try:
                    slot.warm_up()
                    self._trouble.pop(slot, None)
                    claims = self._next_claims()
                except TrainerDied as error:
                    if not self._draining.is_set():
                        metrics.TRAINER_DEATHS.inc()
                    if not self._draining.is_set() and self._trouble.get(slot) != str(error):
                        log.error("no trainer: %s; trying again", error)  # noqa: TRY400 - it says all
                    self._trouble[slot] = str(error)
                    self._draining.wait(RETRY_SECONDS)
                except Exception:  # a slot that ends would never be missed
                    log.exception("a slot met an unexpected error; trying again")
                    self._draining.wait(RETRY_SECONDS)
                else:
                    if claims:
                        self._train(Training(claims, slot))
        finally:
            slot.close()

    def _next_claims(self) -> list[Claim]:
        """Wait for work and claim it, with what can be trained as one; nothing when the worker drains."""
        heard = 0
        while not self._draining.is_set():
            rest = CALLED_POLL_SECONDS if self._calls.listening else self._settings.poll_seconds
            heard = self._bell.wait(rest, heard)
            try:
                with self._database.read() as session:
                    if not queue.has_work(session):
                        continue
                with self._database.write() as session:
                    if self._draining.is_set():  # the way here may have been long
                        return []
                    claims = self._claim(session)
                if claims:
                    return claims
            except Unavailable as error:
                self._cut_off(error)
                self._draining.wait(RETRY_SECONDS)
        return []

    def _claim(self, session: Session) -> list[Claim]:
        lease_seconds, slots = self._settings.lease_seconds, self._settings.slots
        first = queue.claim(session, owner=self._owner, lease_seconds=lease_seconds)
        if first is None:
            return []
        others = min(self._settings.max_stack, self._settings.stack_bytes // first.spec.training_bytes) - 1
        if others < 1:
            return [first]
        return [first, *queue.claim_alike(session, first, lease_seconds=lease_seconds, most=others, share=slots)]

    def _cut_off(self, error: Unavailable) -> None:
        if _now() - self._told_at > TELL_SECONDS:  # an outage may be long, and its reason a full disk
            self._told_at = _now()
            log.warning("%s; trying again", error)
        self._cut_off_at = _now()

    def _others_could_renew(self) -> bool:
        """Whether a lease that has run out tells of a dead worker. While the database was away, or the machine slept,
        nobody could renew one: whoever comes back first must not take the others' work, nor its own.
        """
        return _now() - self._cut_off_at > self._patience

    @property
    def _patience(self) -> float:
        """Seconds in which whoever is alive and can reach the database has renewed its leases."""
        return self._settings.lease_seconds / 3 + 4 * TICK_SECONDS

    @property
    def _tick(self) -> float:
        if not self._calls.listening or any(attempt.cancelling for attempt in set(self._records.supervised)):
            return TICK_SECONDS
        return min(CALLED_TICK_SECONDS, self._settings.lease_seconds / 6)

    def _train(self, training: Training) -> None:
        """Carry the attempts to their ends."""
        for attempt in training.attempts.values():
            metrics.ATTEMPTS_BEGUN.inc()
            with logs.about(experiment_id=attempt.claim.experiment_id, attempt=attempt.claim.attempt):
                log.info("experiment %s, attempt %d: begins", *attempt.token)
        open_ = dict(training.attempts)
        self._records.supervised |= set(open_.values())
        try:
            reason = self._follow(training, open_)
            for experiment_id, attempt in list(open_.items()):
                self._records.end(
                    open_, experiment_id, functools.partial(self._records.after, training, attempt, reason)
                )
        except Exception:  # the slot must live on; the leases run out, and the experiments are tried again
            log.exception("experiments %s", ", ".join(open_))
            for attempt in open_.values():
                attempt.ended("lost")
        finally:
            self._records.supervised -= set(training.attempts.values())

    def _follow(self, training: Training, open_: dict[str, Attempt]) -> str | None:
        """Write what the trainer says until it has said all. Returns how it died, if it did."""
        try:
            with contextlib.closing(training.slot.train(self._records.job(training))) as events:
                for event in events:
                    self._records.record(training, open_, event)
        except TrainerDied as error:
            if not (training.killed or self._draining.is_set()):
                metrics.TRAINER_DEATHS.inc()
            if not error.began:
                log.warning("%s; the work is given back", error)
                return None
            return str(error)
        except LeaseLost as error:  # before it began, when the checkpoints could not be had
            log.warning("%s", error)
        return None
