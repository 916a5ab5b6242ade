"""The near end of a slot's connection: the parent's. A slot trains through it, whatever is at the far end."""

import contextlib
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection

from service.domain.events import Event, Job
from service.engines.base import TrainerDied
from service.engines.messages import Ended, Lost, Message, Stop, receive, send

__all__ = ["ConnectedSlot", "NearEnd"]


class NearEnd(ABC):
    """A connection to whoever trains. Any of its waits ends after `stall_seconds` of silence."""

    def __init__(self, stall_seconds: float) -> None:
        ours, self.theirs = socket.socketpair()
        # A trainer that is frozen in the middle of a message would hold us for ever: poll() sees the first byte only.
        whole, part = divmod(stall_seconds, 1)
        limit = struct.pack("ll", int(whole), int(part * 1e6) or int(whole == 0))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, limit)
        self._connection = Connection(ours.detach())
        self._send_lock = threading.Lock()
        self._stall_seconds = stall_seconds
        self.jobs = 0

    @property
    @abstractmethod
    def warm(self) -> bool:
        """Whether it may be given another job."""

    @abstractmethod
    def kill(self) -> None:
        """End what is under way, now. May be called from another thread, and more than once."""

    @abstractmethod
    def death(self) -> TrainerDied:
        """How it ended, once the connection has."""

    def close(self) -> None:
        """Free what it holds, after `kill`."""
        self._connection.close()

    def send(self, message: Message) -> None:
        """Write one message.

        Raises:
            TrainerDied: it is gone, or does not read.
        """
        try:
            with self._send_lock:
                send(self._connection, message)
        except BlockingIOError:
            raise self.stalled() from None
        except OSError:
            raise self.death() from None

    def send_if_free(self, message: Message) -> None:
        """Send, unless another message is under way: a trainer that does not read must not hold its supervisor."""
        if self._send_lock.acquire(blocking=False):
            self._send_lock.release()
            self.send(message)

    def receive(self, seconds: float | None = None) -> Message:
        """Wait for the next message; a silence of `seconds`, by default `stall_seconds`, kills the trainer.

        Raises:
            TrainerDied: it is gone, or was silent for too long.
        """
        try:
            if not self._connection.poll(self._stall_seconds if seconds is None else seconds):
                raise self.stalled(seconds)
            message = receive(self._connection)
        except BlockingIOError:
            raise self.stalled() from None
        except (EOFError, OSError):
            raise self.death() from None
        if isinstance(message, Lost):
            raise TrainerDied(message.reason, began=message.began)
        return message

    def stalled(self, seconds: float | None = None) -> TrainerDied:
        """End it: it was silent for too long."""
        self.kill()
        return TrainerDied(f"the trainer said nothing for {seconds or self._stall_seconds:g} s and was killed")


class ConnectedSlot:
    """A slot whose trainer is at the far end of a connection."""

    def __init__(self, connect: Callable[[], NearEnd], start_seconds: float) -> None:
        self._connect = connect
        self._start_seconds = start_seconds
        self._end: NearEnd | None = None
        self._job: Job | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """See `Slot`."""
        if self._end is not None and self._end.warm:
            return
        self._drop()
        end = self._connect()
        with self._lock:
            self._end = end
        try:
            end.receive(self._start_seconds)  # Ready
        except TrainerDied:
            self._drop()
            raise

    def train(self, job: Job) -> Generator[Event, None, None]:
        """See `Slot`."""
        self.warm_up()
        end = self._end
        assert end is not None  # noqa: S101 - just warmed up
        end.jobs += 1
        self._job, over = job, False
        try:
            end.send(job)
            while not isinstance(message := end.receive(), Ended):
                yield message  # type: ignore[misc]  # who was ready sends events and Ended
            over = True
        finally:
            self._job = None
            if not over:  # it died, or nobody wants its events: what it would still say must not reach the next job
                self._drop()

    def stop(self, experiment_id: str | None = None) -> None:
        """See `Slot`."""
        with self._lock:
            end, job = self._end, self._job
        if end is None or job is None:
            return
        with contextlib.suppress(TrainerDied):
            for member in job.members:
                if experiment_id in {None, member.experiment_id}:
                    end.send_if_free(Stop(experiment_id=member.experiment_id, attempt=member.attempt))

    def kill(self) -> None:
        """See `Slot`."""
        with self._lock:
            if self._end is not None:
                self._end.kill()

    def close(self) -> None:
        """See `Slot`."""
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            end, self._end = self._end, None
        if end is not None:
            end.kill()
            end.close()
