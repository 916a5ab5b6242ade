"""The far end of a slot's connection: takes jobs, heeds stops, and sends what training says."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection

from service.domain.events import EpochEnd, Event, Failed, Job, Stopped, Stops, Trained
from service.engines.base import TrainerDied
from service.engines.messages import Ended, Lost, Ready, Stop, receive, send
from service.errors import OutOfMemory, TrainingError, TrainingErrorCode
from service.telemetry import logs, traces

__all__ = ["FarEnd", "Train", "to_every_end", "traced"]

log = logging.getLogger("epochd.trainer")

Train = Callable[[Job, Stops], Iterable[Event]]


class FarEnd:
    """Listens from the moment it is made, so that a parent's death is known while there is no job yet."""

    def __init__(self, connection: Connection, gone: Callable[[], None]) -> None:
        """`gone` is called, from another thread, when nobody is at the other end any more, and `serve` waits for it."""
        self._connection = connection
        self._gone = gone
        self._jobs: queue.Queue[tuple[Job, Stops] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def serve(self, train: Train) -> None:
        """Say that all is ready, and train one job after another until the connection closes."""
        try:
            send(self._connection, Ready())
            while (order := self._jobs.get()) is not None:
                self._train(train, *order)
                send(self._connection, Ended())
        except OSError:  # nobody is there; or a file's: the parent, if there is one, takes that for a death
            self._gone()

    def refuse(self, reason: str) -> None:
        """Say, instead of being ready, why there is nothing to train with."""
        try:
            send(self._connection, Lost(reason=reason, began=False))
        except OSError:
            self._gone()

    def _listen(self) -> None:
        latest: set[tuple[str, int]] = set()
        stops = Stops()
        while True:
            try:
                message = receive(self._connection)
            except (EOFError, OSError):
                try:
                    self._gone()
                finally:  # last: a process whose `serve` returns may end, and this thread with it
                    self._jobs.put(None)
                return
            if isinstance(message, Job):
                latest = {(member.experiment_id, member.attempt) for member in message.members}
                stops = Stops()
                self._jobs.put((message, stops))
            elif isinstance(message, Stop) and (message.experiment_id, message.attempt) in latest:
                stops.stop(message.experiment_id)

    def _train(self, train: Train, job: Job, stops: Stops) -> None:
        one = job.members[0]
        whose = {"experiment_id": one.experiment_id, "attempt": one.attempt} if len(job.members) == 1 else {}
        with logs.about(**whose):
            self._say(train, job, stops)

    def _say(self, train: Train, job: Job, stops: Stops) -> None:
        try:
            for event in to_every_end(train, job, stops):
                send(self._connection, event)
        except TrainerDied as error:
            send(self._connection, Lost(reason=str(error), began=error.began))


def traced(train: Train) -> Train:
    """The same training, with a span for each job, under the first member's attempt, and an event for each epoch."""

    def with_span(job: Job, stops: Stops) -> Iterator[Event]:
        parents = [member.trace_context for member in job.members if member.trace_context]
        about: traces.Attributes = {
            "epochd.experiment_id": job.members[0].experiment_id,
            "epochd.members": len(job.members),
            "epochd.resumed": bool(job.resume),
        }
        with traces.span("training", parent=next(iter(parents), None), links=parents[1:], attributes=about) as span:
            for event in train(job, stops):
                if isinstance(event, EpochEnd):
                    measured = next(iter(event.metrics.values()))
                    told = {"epoch": measured.epoch, "loss": measured.loss, "accuracy": measured.accuracy}
                    traces.event(span, "epoch", told)
                yield event

    return with_span


def to_every_end(train: Train, job: Job, stops: Stops) -> Iterator[Event]:
    """What training says, and `Failed` for each member of which an error kept it from saying the end.

    Raises:
        OSError: a file or a connection failed: another attempt may succeed.
        TrainerDied: the trainer behind this one is gone.
    """
    left = {member.experiment_id for member in job.members}
    code: TrainingErrorCode = "internal"
    try:
        for event in train(job, stops):
            if isinstance(event, (Trained, Failed, Stopped)):
                left.discard(event.experiment_id)
            yield event
        return
    except TrainingError as error:
        code, message = error.code, str(error)
    except (OSError, TrainerDied):
        raise
    except MemoryError:
        code, message = OutOfMemory.code, "the trainer was given no more memory"
    except Exception:
        log.exception("experiments %s", ", ".join(sorted(left)))
        message = "the trainer met an unexpected error: see its log"
    for experiment_id in left:
        yield Failed(experiment_id=experiment_id, code=code, message=message)
