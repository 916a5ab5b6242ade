"""What a worker writes of its attempts: epochs, checkpoints and ends."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from service.domain.events import Checkpoint, EpochEnd, Event, Failed, Job, Member, Stopped, Trained
from service.domain.experiment import Status
from service.errors import BlobCorrupt, BlobMissing, LeaseLost, Unavailable
from service.settings import Settings
from service.store import queue
from service.store.blobs import Blobs
from service.store.queue import ModelFiles
from service.store.session import Database
from service.telemetry import logs, metrics, traces
from service.worker.attempts import Attempt, Training

__all__ = ["RETRY_SECONDS", "Records"]

log = logging.getLogger("epochd.worker")
T = TypeVar("T")

RETRY_SECONDS = 1.0
OF_THE_STACK = frozenset({"out_of_memory", "internal"})
"""Failures of a whole job, which are not the fault of each of its members."""


class Records:
    """Writes under the fence of each attempt. Whatever is away is waited for, as long as the attempt is ours."""

    def __init__(self, *, database: Database, blobs: Blobs, settings: Settings, draining: threading.Event) -> None:
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._draining = draining
        self.supervised: set[Attempt] = set()
        """Attempts whose leases are kept, and which may be lost."""

    def job(self, training: Training) -> Job:
        """What the trainer is given: with the last checkpoints, where there are any.

        Raises:
            LeaseLost: every attempt was lost while the checkpoints could not be had.
        """
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
                Member(
                    experiment_id=one.claim.experiment_id,
                    attempt=one.claim.attempt,
                    spec=one.claim.spec,
                    trace_context=traces.current(one.span) if one.span else None,
                )
                for one in attempts
            ),
            data_dir=str(self._settings.datasets_dir),
            checkpoint_seconds=self._settings.checkpoint_seconds,
            resume=resume,
        )

    def record(self, training: Training, open_: dict[str, Attempt], event: Event) -> None:
        """Write what an event says of the attempts that are still open; those that it ends are so no longer."""
        match event:
            case EpochEnd():
                self._record_epoch(open_, event)
            case Checkpoint() if (attempt := open_.get(event.experiment_id)) is not None:
                with contextlib.suppress(LeaseLost):  # the supervisor or a later write finds it too
                    self._checkpoint(attempt, event)
            case Trained() if (attempt := open_.get(event.experiment_id)) is not None:
                self.end(open_, event.experiment_id, functools.partial(self._finish, attempt, event))
            case Failed() if (attempt := open_.get(event.experiment_id)) is not None:
                self.end(open_, event.experiment_id, functools.partial(self._fail, training, attempt, event))
            case Stopped() if (attempt := open_.get(event.experiment_id)) is not None:
                self.end(open_, event.experiment_id, functools.partial(self._give_back, attempt))
            case _:
                pass

    def end(self, open_: dict[str, Attempt], experiment_id: str, act: Callable[[], Status]) -> None:
        """Write an attempt's end, after which it is nobody's."""
        attempt = open_.pop(experiment_id)
        with logs.about(experiment_id=experiment_id, attempt=attempt.claim.attempt):
            outcome = "lost"
            try:
                status = act()
            except LeaseLost as error:
                log.warning("%s: its training was stopped", error)
            else:
                outcome = status.value
                log.info("experiment %s, attempt %d: %s", *attempt.token, status)
            finally:
                attempt.ended(outcome)

    def _record_epoch(self, open_: dict[str, Attempt], event: EpochEnd) -> None:
        """Write the epoch of every member at once. One that is lost does not keep the others from theirs."""
        written = [(open_[name], measured) for name, measured in event.metrics.items() if name in open_]

        def write(session: Session) -> None:
            for attempt, measured in written:
                if not attempt.lost.is_set():
                    with contextlib.suppress(LeaseLost):
                        queue.record_epoch(session, attempt.claim, measured)

        if written:
            with contextlib.suppress(LeaseLost):  # every one of them: the trainer is being killed
                self._insist([attempt for attempt, _ in written], lambda: self._in_transaction(write))
                metrics.EPOCHS.inc(len(written))
                metrics.TRAINING_SECONDS.inc(sum(measured.seconds for _, measured in written))

    def _checkpoint(self, attempt: Attempt, event: Checkpoint) -> None:
        claimed = attempt.claim
        sha256 = self._put(attempt, event.payload)
        replaced = self._transact(
            attempt, lambda session: queue.record_checkpoint(session, claimed, epoch=event.epoch, sha256=sha256)
        )
        if replaced is not None:
            self._blobs.discard(claimed.experiment_id, replaced)

    def _finish(self, attempt: Attempt, trained: Trained) -> Status:
        claimed = attempt.claim
        files = ModelFiles(keras_sha256=self._put(attempt, trained.keras), onnx_sha256=self._put(attempt, trained.onnx))
        status, checkpoint = self._settle(attempt, lambda session: queue.finish(session, claimed, trained, files))
        garbage = [] if checkpoint is None else [checkpoint]
        if status is not Status.SUCCEEDED:
            garbage += [files.keras_sha256, files.onnx_sha256]
        for sha256 in garbage:
            self._blobs.discard(claimed.experiment_id, sha256)
        return status

    def _fail(self, training: Training, attempt: Attempt, failed: Failed) -> Status:
        if len(training.attempts) > 1 and failed.code in OF_THE_STACK:  # it may succeed alone
            return self._requeue(attempt, failed.message)
        return self._settle(attempt, lambda session: queue.fail(session, attempt.claim, failed.code, failed.message))

    def after(self, training: Training, attempt: Attempt, reason: str | None) -> Status:
        """The end of an attempt of which the trainer said no more. `reason` is how it died, or None."""
        if reason is None or training.killed or self._draining.is_set():
            return self._give_back(attempt)
        log.warning("experiment %s, attempt %d: %s", *attempt.token, reason)
        return self._requeue(attempt, reason)

    def _requeue(self, attempt: Attempt, reason: str) -> Status:
        most = self._settings.max_attempts
        return self._settle(
            attempt, lambda session: queue.requeue(session, attempt.claim, reason=reason, max_attempts=most)
        )

    def _give_back(self, attempt: Attempt) -> Status:
        """The trainer heeded a stop: the worker drains, or the experiment is being cancelled."""
        return self._settle(attempt, lambda session: queue.give_back(session, attempt.claim))

    def _settle(self, attempt: Attempt, act: Callable[[Session], T]) -> T:
        """Write an attempt's end. It is supervised no longer: what it no longer owns is not lost."""
        self.supervised.discard(attempt)
        return self._transact(attempt, act)

    def _transact(self, attempt: Attempt, act: Callable[[Session], T]) -> T:
        return self._insist([attempt], lambda: self._in_transaction(act))

    def _in_transaction(self, act: Callable[[Session], T]) -> T:
        with self._database.write() as session:
            return act(session)

    def _put(self, attempt: Attempt, data: bytes) -> str:
        with traces.within(attempt.span):
            return self._insist([attempt], lambda: self._blobs.put(attempt.claim.experiment_id, data))

    def _insist(self, attempts: list[Attempt], act: Callable[[], T]) -> T:
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
