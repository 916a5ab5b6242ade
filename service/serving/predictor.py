"""Probabilities from saved models, by ONNX Runtime. No TensorFlow, and no database for a model that is known."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from service.serving.images import Pixels
from service.telemetry import metrics

__all__ = ["Predictor", "Servable", "own_name"]


class Servable(Protocol):
    """What names a model and finds its file."""

    @property
    def experiment_id(self) -> str: ...  # noqa: D102
    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def onnx_sha256(self) -> str: ...  # noqa: D102


def own_name(experiment_id: str) -> str:
    """What an experiment's model is called by its id: no alias can be spelled so, not even one like the id."""
    return f"experiments/{experiment_id}"


@dataclass(frozen=True)
class _Resolved:
    model: Servable
    learnt: float
    until: float


@dataclass(frozen=True)
class _Session:
    """An open model, and what its input and output are called: to ask it each time takes as long as to run it."""

    runtime: onnxruntime.InferenceSession
    input: str
    outputs: list[str]


class Predictor:
    """Answers from any model; keeps the sessions of the `capacity` used last. Safe to call from many threads."""

    RESOLVE_SECONDS = 0.25
    """How long a name is believed to mean the same model."""
    STALE_SECONDS = 0.75
    """So long at most, while another request asks anew: an alias that moves is seen after this at the latest."""

    def __init__(self, *, load: Callable[[str, str], bytes], capacity: int) -> None:
        """Take `load(experiment_id, sha256)`, which reads an ONNX file and verifies it."""
        self._load = load
        self._capacity = capacity
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._resolved: dict[str, _Resolved] = {}
        self._lock = threading.Lock()

    def known(self, name: str) -> Servable | None:
        """The model that a name was last found to mean, if that is recent enough and its session is ready.

        When it is time to ask anew, one caller is told nothing and shall `learn`; those that come meanwhile go on.
        """
        found = self._resolved.get(name)
        if found is None or found.model.onnx_sha256 not in self._sessions:
            return None
        now = time.monotonic()
        if now <= found.until:
            return found.model
        if now < (last := found.learnt + self.STALE_SECONDS):
            self._resolved[name] = replace(found, until=last)
        return None

    def learn(self, name: str, model: Servable) -> None:
        """Load the model where it is not ready, and remember for a moment that the name means it.

        Raises:
            BlobMissing, BlobCorrupt, Unavailable: its file cannot be had.
        """
        self._session(model)
        with self._lock:
            if len(self._resolved) > 10 * self._capacity:
                self._resolved.clear()
            now = time.monotonic()
            self._resolved[name] = _Resolved(model, now, now + self.RESOLVE_SECONDS)

    def forget(self, name: str) -> None:
        """Ask again next time what the name means."""
        self._resolved.pop(name, None)

    def probabilities(self, model: Servable, pixels: Pixels) -> npt.NDArray[np.float32]:
        """The network's answer: float32 (n, 10) for pixels float32 (n, 784) of 0..255."""
        session = self._session(model)
        begun = time.perf_counter()
        answer: list[Any] = session.runtime.run(session.outputs, {session.input: pixels / np.float32(255)})
        metrics.predicted(len(pixels), time.perf_counter() - begun)
        probabilities: npt.NDArray[np.float32] = answer[0]
        return probabilities

    def _session(self, model: Servable) -> _Session:
        key = model.onnx_sha256
        with self._lock:
            session = self._sessions.get(key)
            if session is not None:
                self._sessions.move_to_end(key)
                metrics.cache_hit()
                return session
        metrics.CACHE_MISSES.inc()
        session = _open(self._load(model.experiment_id, key))
        with self._lock:
            self._sessions[key] = session
            self._sessions.move_to_end(key)
            while len(self._sessions) > self._capacity:
                self._sessions.popitem(last=False)
            metrics.CACHED_MODELS.set(len(self._sessions))
        return session


def _open(onnx: bytes) -> _Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a network this small is slower on many
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    runtime = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return _Session(runtime, runtime.get_inputs()[0].name, [output.name for output in runtime.get_outputs()])
