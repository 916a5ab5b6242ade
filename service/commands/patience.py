"""A client for people: while nobody answers it says that it waits."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import httpx

from service.client import Client, Retries
from service.commands.console import err, fail

__all__ = ["PatientClient"]

SILENCE_SECONDS = 5.0
TIMEOUT = "EPOCHD_TIMEOUT_SECONDS"


@dataclass(frozen=True, kw_only=True)
class _Told(Retries):
    """Retries of which somebody hears."""

    failed: Callable[[], None]

    def seconds(self, repeats: int, response: httpx.Response | None = None) -> float | None:
        """How long to wait after so many repeats and this answer; None to give up."""
        wait = super().seconds(repeats, response)
        if response is None and wait is not None:
            self.failed()
        return wait


class PatientClient(Client):
    """Until the first answer it says, once, that there is none yet."""

    def __init__(self, url: str | None, *, api_key: str | None) -> None:
        timeout = _timeout()
        told = _Told(failed=lambda: self._tell("trying again"))
        super().__init__(url, api_key=api_key, retries=told, **timeout)
        self._silence = threading.Timer(SILENCE_SECONDS, self._tell, ["still waiting"])
        self._silence.daemon = True
        self._lock = threading.Lock()
        self._expected = True
        self._carrier.http.event_hooks = {"response": [lambda _: self._stop()]}

    def __enter__(self) -> Self:
        self._silence.start()
        return super().__enter__()

    def close(self) -> None:
        """Close the connections."""
        self._stop()
        if self._silence.is_alive():  # Python may crash where a thread wakes up at its end
            self._silence.join()
        super().close()

    def _tell(self, what: str) -> None:
        if self._stop():
            err.print(f"epochd: no answer from {self.url} yet; {what}")

    def _stop(self) -> bool:
        """Say nothing any more. Whether there was something to say."""
        with self._lock:
            expected, self._expected = self._expected, False
        self._silence.cancel()
        return expected


def _timeout() -> dict[str, float]:
    """How long an answer may take, where the environment says it."""
    text = os.environ.get(TIMEOUT)
    if not text:
        return {}
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        fail(f"{TIMEOUT} is no number of seconds: {text!r}")
    return {"timeout_seconds": seconds}
