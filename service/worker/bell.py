"""What a worker's threads wait on."""

import threading

__all__ = ["Bell"]


class Bell:
    """Rings for everybody who waits. Safe to use from many threads."""

    def __init__(self) -> None:
        self._rung = 0
        self._changed = threading.Condition()

    def ring(self) -> None:
        """Wake everybody who waits."""
        with self._changed:
            self._rung += 1
            self._changed.notify_all()

    def wait(self, seconds: float, heard: int) -> int:
        """Return after so many seconds, or as soon as it has rung since the time that was numbered `heard`. Returns the
        number of the last time.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._rung > heard, seconds)
            return self._rung
