"""What an engine is. The worker knows this much and no more; `local` and `ray` pass the same conformance tests."""

from collections.abc import Generator
from typing import Protocol

from service.domain.events import Event, Job

__all__ = ["Engine", "Slot", "TrainerDied"]


class TrainerDied(Exception):
    """The trainer ended, or stalled and was killed, before it said how training went. Its text says how."""

    def __init__(self, reason: str, *, began: bool = True) -> None:
        """`began` is False when nothing was trained, so that no attempt is used up."""
        super().__init__(reason)
        self.began = began


class Slot(Protocol):
    """A place where one job trains at a time. `stop` and `kill` may be called from another thread."""

    def warm_up(self) -> None:
        """Return when a trainer is ready to begin at once; start one where there is none.

        Raises:
            TrainerDied: it could not be started.
        """

    def train(self, job: Job) -> Generator[Event, None, None]:
        """Train, and yield the trainer's events. Ends when every member has `Trained`, `Failed` or `Stopped`.

        Raises:
            TrainerDied: the trainer is gone; another attempt may succeed.
        """

    def stop(self, experiment_id: str | None = None) -> None:
        """Ask the trainer to end a member, or all, after the epoch under way, with a checkpoint."""

    def kill(self) -> None:
        """End the trainer now. `train` then raises TrainerDied."""

    def close(self) -> None:
        """End the trainer and free the place. Leaves no process behind."""


class Engine(Protocol):
    """Where training runs. It moves events and never touches the store."""

    def slot(self) -> Slot:
        """A new place."""
