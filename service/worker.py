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
from typing import TypeVar

from sqlalchemy.orm import Session

from service.domain.events import Checkpoint, EpochEnd, Event, Failed, Job, Member, Stopped, Trained
from service.domain.experiment import Status
from service.engines.base import Engine, Slot, TrainerDied
from service.errors import BlobCorrupt, BlobMissing, LeaseLost, Unavailable
from service.settings import Settings
from service.store import queue
from service.store.blobs import Blobs
from service.store.queue import Claim, ModelFiles
from service.store.session import Database

__all__ = ["Worker"]

log = logging.getLogger("epochd.worker")
T = TypeVar("T")

TICK_SECONDS = 0.25
RETRY_SECONDS = 1.0
TELL_SECONDS = 10.0
OF_THE_STACK = frozenset({"out_of_memory", "internal"})
"""Failures of a whole job, which are not the fault of each of its members."""


def _now() -> float:
    """Seconds that pass while the machine sleeps, too, where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Attempt:
    """One claimed experiment, and what the supervisor has learnt about it."""

    def __init__(self, claimed: Claim, training: "_Training") -> None:
        self.claim = claimed
        self.lost = threading.Event()
        self._training = training
        self._cancelled_at: float | None = None

    @property
    def token(self) -> tuple[str, int]:
        return self.claim.experiment_id, self.claim.attempt

    def cancel(self, grace_seconds: float) -> None:
        """Ask the trainer to stop this member; kill it when it was asked long enough ago."""
        now = time.monotonic()
        if self._cancelled_at is None:
            self._cancelled_at = now
            self._training.slot.stop(self.claim.experiment_id)
        elif now - self._cancelled_at >= grace_seconds:
            self._training.kill()

    def lose(self) -> None:
        """Stop at once: another attempt owns the experiment, or it is gone."""
        if not self.lost.is_set():
            self.lost.set()
            self._training.slot.stop(self.claim.experiment_id)
            if all(attempt.lost.is_set() for attempt in self._training.attempts.values()):
                self._training.kill()


class _Training:
    """The attempts that are trained as one on a slot."""

    def __init__(self, claims: list[Claim], slot: Slot) -> None:
        self.slot = slot
        self.attempts = {claimed.experiment_id: _Attempt(claimed, self) for claimed in claims}
        self.killed = False

    def kill(self) -> None:
        """End the trainer, through no fault of its work."""
        self.killed = True
        self.slot.kill()


class Worker:
    """Trains queued experiments, `slots` at a time, until it is drained."""

    def __init__(self, *, database: Database, blobs: Blobs, engine: Engine, settings: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._engine = engine
        self._settings = settings
        self._owner = f"{socket.gethostname()[:20]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._draining = threading.Event()
        self._attempts: set[_Attempt] = set()
        self._slots: list[Slot] = []
        self._cut_off_at = self._told_at = -math.inf
        self._seen_at = _now()

    def drain(self) -> None:
        """Claim nothing more and give running work back. Returns at once; `run` returns when all is given back."""
        self._draining.set()

    def run(self) -> None:
        """Work until drained. Leaves no process behind."""
        self._seen_at = _now()
        self._slots = [self._engine.slot() for _ in range(self._settings.slots)]
        threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"slot-{number}")
            for number, slot in enumerate(self._slots, 1)
        ]
        for thread in threads:
            thread.start()
        log.info("worker %s trains %d at once", self._owner, len(threads))
        try:
            self._supervise()
        finally:
            self._stop(threads)
        log.info("worker %s has stopped", self._owner)

    # Supervising: one thread keeps the leases, and carries cancels and losses to the trainers.

    def _supervise(self) -> None:
        beat_at = 0.0
        while not self._draining.wait(TICK_SECONDS):
            attempts = set(self._attempts)  # before the look: what is claimed after it cannot be missed in it
            beat = time.monotonic() >= beat_at
            try:
                statuses = self._beat(attempts) if beat else self._look()
            except Unavailable as error:
                self._cut_off(error)
                continue
            self._saw()
            if beat:
                beat_at = time.monotonic() + self._settings.lease_seconds / 3
            self._release_expired()
            for attempt in attempts & self._attempts:
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
                    queue.release_expired(session, max_attempts=self._settings.max_attempts)
        except Unavailable as error:
            self._cut_off(error)

    def _beat(self, attempts: set[_Attempt]) -> dict[tuple[str, int], Status]:
        if not attempts:
            return {}
        with self._database.write() as session:
            return dict(
                queue.heartbeat(
                    session,
                    owner=self._owner,
                    experiment_ids=[attempt.claim.experiment_id for attempt in attempts],
                    lease_seconds=self._settings.lease_seconds,
                )
            )

    def _look(self) -> dict[tuple[str, int], Status]:
        with self._database.read() as session:
            return dict(queue.owned(session, owner=self._owner))

    def _stop(self, threads: list[threading.Thread]) -> None:
        self._draining.set()
        log.info("worker %s stops: running work is given back", self._owner)
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

    # Working: one thread a slot.

    def _work(self, slot: Slot) -> None:
        try:
            while not self._draining.is_set():
                try:
                    slot.warm_up()
                    claims = self._next_claims()
                except TrainerDied as error:
                    if not self._draining.is_set():
                        log.error("no trainer: %s; trying again", error)  # noqa: TRY400 - it says all
                    self._draining.wait(RETRY_SECONDS)
                except Exception:  # a slot that ends would never be missed
                    log.exception("a slot met an unexpected error; trying again")
                    self._draining.wait(RETRY_SECONDS)
                else:
                    if claims:
                        self._train(_Training(claims, slot))
        finally:
            slot.close()

    def _next_claims(self) -> list[Claim]:
        """Wait for work and claim it, with what can be trained as one; nothing when the worker drains."""
        while not self._draining.wait(self._settings.poll_seconds):
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
        return max(self._settings.lease_seconds / 3, 4 * TICK_SECONDS)

    def _train(self, training: _Training) -> None:
        """Carry the attempts to their ends."""
        for attempt in training.attempts.values():
            log.info("experiment %s, attempt %d: begins", *attempt.token)
        open_ = dict(training.attempts)
        self._attempts |= set(open_.values())
        try:
            reason = self._follow(training, open_)
            for experiment_id, attempt in list(open_.items()):
                self._end(open_, experiment_id, functools.partial(self._after, training, attempt, reason))
        except Exception:  # the slot must live on; the leases run out, and the experiments are tried again
            log.exception("experiments %s", ", ".join(open_))
        finally:
            self._attempts -= set(training.attempts.values())

    def _follow(self, training: _Training, open_: dict[str, _Attempt]) -> str | None:
        """Write what the trainer says until it has said all. Returns how it died, if it did."""
        try:
            with contextlib.closing(training.slot.train(self._job(training))) as events:
                for event in events:
                    self._record(training, open_, event)
        except TrainerDied as error:
            return str(error)
        except LeaseLost as error:  # before it began, when the checkpoints could not be had
            log.warning("%s", error)
        return None

    def _record(self, training: _Training, open_: dict[str, _Attempt], event: Event) -> None:
        match event:
            case EpochEnd():
                self._record_epoch(open_, event)
            case Checkpoint() if (attempt := open_.get(event.experiment_id)) is not None:
                with contextlib.suppress(LeaseLost):  # the supervisor or a later write finds it too
                    self._checkpoint(attempt, event)
            case Trained() if (attempt := open_.get(event.experiment_id)) is not None:
                self._end(open_, event.experiment_id, functools.partial(self._finish, attempt, event))
            case Failed() if (attempt := open_.get(event.experiment_id)) is not None:
                self._end(open_, event.experiment_id, functools.partial(self._fail, training, attempt, event))
            case Stopped() if (attempt := open_.get(event.experiment_id)) is not None:
                self._end(open_, event.experiment_id, functools.partial(self._give_back, attempt))
            case _:
                pass

    def _end(self, open_: dict[str, _Attempt], experiment_id: str, act: Callable[[], Status]) -> None:
        """Write an attempt's end, after which it is nobody's."""
        attempt = open_.pop(experiment_id)
        try:
            status = act()
        except LeaseLost as error:
            log.warning("%s: its training was stopped", error)
        else:
            log.info("experiment %s, attempt %d: %s", *attempt.token, status)

    def _job(self, training: _Training) -> Job:
        attempts = list(training.attempts.values())
        claims = [attempt.claim for attempt in attempts]
        try:
            resume = tuple(
                self._insist(attempts, functools.partial(self._blobs.get, one.experiment_id, one.checkpoint_sha256))
                for one in claims
                if one.checkpoint_sha256 is not None
            )
        except (BlobMissing, BlobCorrupt) as error:
            log.warning("%s: training begins anew", error)
            resume = ()
        return Job(
            members=tuple(
                Member(experiment_id=claimed.experiment_id, attempt=claimed.attempt, spec=claimed.spec)
                for claimed in claims
            ),
            data_dir=str(self._settings.datasets_dir),
            checkpoint_seconds=self._settings.checkpoint_seconds,
            resume=resume,
        )

    def _record_epoch(self, open_: dict[str, _Attempt], event: EpochEnd) -> None:
        """Write the epoch of every member at once. One that is lost does not keep the others from theirs."""
        written = [(open_[name], metrics) for name, metrics in event.metrics.items() if name in open_]

        def write(session: Session) -> None:
            for attempt, metrics in written:
                if not attempt.lost.is_set():
                    with contextlib.suppress(LeaseLost):
                        queue.record_epoch(session, attempt.claim, metrics)

        if written:
            with contextlib.suppress(LeaseLost):  # every one of them: the trainer is being killed
                self._insist([attempt for attempt, _ in written], lambda: self._in_transaction(write))

    def _checkpoint(self, attempt: _Attempt, event: Checkpoint) -> None:
        claimed = attempt.claim
        sha256 = self._put(attempt, event.payload)
        replaced = self._transact(
            attempt, lambda session: queue.record_checkpoint(session, claimed, epoch=event.epoch, sha256=sha256)
        )
        if replaced is not None:
            self._blobs.discard(claimed.experiment_id, replaced)

    def _finish(self, attempt: _Attempt, trained: Trained) -> Status:
        claimed = attempt.claim
        files = ModelFiles(keras_sha256=self._put(attempt, trained.keras), onnx_sha256=self._put(attempt, trained.onnx))
        status, checkpoint = self._settle(attempt, lambda session: queue.finish(session, claimed, trained, files))
        garbage = [] if checkpoint is None else [checkpoint]
        if status is not Status.SUCCEEDED:
            garbage += [files.keras_sha256, files.onnx_sha256]
        for sha256 in garbage:
            self._blobs.discard(claimed.experiment_id, sha256)
        return status

    def _fail(self, training: _Training, attempt: _Attempt, failed: Failed) -> Status:
        if len(training.attempts) > 1 and failed.code in OF_THE_STACK:  # it may succeed alone
            return self._requeue(attempt, failed.message)
        return self._settle(attempt, lambda session: queue.fail(session, attempt.claim, failed.code, failed.message))

    def _after(self, training: _Training, attempt: _Attempt, reason: str | None) -> Status:
        """The end of an attempt of which the trainer said no more. `reason` is how it died, or None."""
        if reason is None or training.killed or self._draining.is_set():
            return self._give_back(attempt)
        log.warning("experiment %s, attempt %d: %s", *attempt.token, reason)
        return self._requeue(attempt, reason)

    # Writing: whatever is away is waited for, as long as the attempt is ours.

    def _requeue(self, attempt: _Attempt, reason: str) -> Status:
        most = self._settings.max_attempts
        return self._settle(
            attempt, lambda session: queue.requeue(session, attempt.claim, reason=reason, max_attempts=most)
        )

    def _give_back(self, attempt: _Attempt) -> Status:
        """The trainer heeded a stop: the worker drains, or the experiment is being cancelled."""
        return self._settle(attempt, lambda session: queue.give_back(session, attempt.claim))

    def _settle(self, attempt: _Attempt, act: Callable[[Session], T]) -> T:
        """Write an attempt's end. It is supervised no longer: what it no longer owns is not lost."""
        self._attempts.discard(attempt)
        return self._transact(attempt, act)

    def _transact(self, attempt: _Attempt, act: Callable[[Session], T]) -> T:
        return self._insist([attempt], lambda: self._in_transaction(act))

    def _in_transaction(self, act: Callable[[Session], T]) -> T:
        with self._database.write() as session:
            return act(session)

    def _put(self, attempt: _Attempt, data: bytes) -> str:
        return self._insist([attempt], lambda: self._blobs.put(attempt.claim.experiment_id, data))

    def _insist(self, attempts: list[_Attempt], act: Callable[[], T]) -> T:
        while True:
            if all(attempt.lost.is_set() for attempt in attempts):
                raise LeaseLost("; ".join("attempt {1} at {0} is over".format(*attempt.token) for attempt in attempts))
            try:
                return act()
            except (BlobMissing, BlobCorrupt):
                raise
            except Unavailable as error:
                log.warning("%s; trying again", error)
                if self._draining.wait(RETRY_SECONDS):
                    raise LeaseLost("the worker stops while the store is away; the lease will expire") from error
