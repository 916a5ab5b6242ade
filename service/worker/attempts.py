"""What a worker has claimed, and what its supervisor has learnt of it."""

import threading
import time
from typing import TYPE_CHECKING

from service.engines.base import Slot
from service.store.queue import Claim
from service.telemetry import metrics, traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["Attempt", "Training"]


class Attempt:
    """One claimed experiment, and what the supervisor has learnt about it."""

    def __init__(self, claimed: Claim, training: "Training") -> None:
        self.claim = claimed
        self.lost = threading.Event()
        self._training = training
        self._cancelled_at: float | None = None
        self.span = self._begin_span()

    def _begin_span(self) -> "Span | None":
        """The attempt's, under the request that queued it; beside it, how long the experiment has waited."""
        one, parent = self.claim, self.claim.trace_context
        about: traces.Attributes = {"epochd.experiment_id": one.experiment_id, "epochd.attempt": one.attempt}
        if one.attempt == 1 and one.queued_at is not None:
            waited = traces.begin("queue", parent=parent, attributes=about, since=one.queued_at)
            if waited is not None:
                waited.end()
        return traces.begin("attempt", parent=parent, kind="consumer", attributes=about)

    def ended(self, outcome: str) -> None:
        """Count and trace how it ended: one of `metrics.OUTCOMES`."""
        metrics.ATTEMPTS_ENDED.labels(outcome).inc()
        if self.span is not None:
            self.span.set_attribute("epochd.outcome", outcome)
            self.span.end()

    @property
    def token(self) -> tuple[str, int]:
        """Experiment and attempt."""
        return self.claim.experiment_id, self.claim.attempt

    @property
    def cancelling(self) -> bool:
        """Whether its trainer was asked to stop, and may have to be killed soon."""
        return self._cancelled_at is not None

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
            metrics.LEASES_LOST.inc()
            self._training.slot.stop(self.claim.experiment_id)
            if all(attempt.lost.is_set() for attempt in self._training.attempts.values()):
                self._training.kill()


class Training:
    """The attempts that are trained as one on a slot."""

    def __init__(self, claims: list[Claim], slot: Slot) -> None:
        self.slot = slot
        self.attempts = {claimed.experiment_id: Attempt(claimed, self) for claimed in claims}
        self.killed = False

    def kill(self) -> None:
        """End the trainer, through no fault of its work."""
        self.killed = True
        self.slot.kill()
