"""A trainer without TensorFlow that behaves as the experiment's name says, for what engines and workers must bear.

Loaded by its import path in a real trainer process.
"""

import os
import signal
import threading
from collections.abc import Iterator

from service.domain.events import Alive, Checkpoint, EpochEnd, Event, Job, Trained
from service.domain.experiment import EpochMetrics
from service.errors import TrainingDiverged


def warm_up(data_dir: str) -> None:
    """Nothing is needed."""


def train(job: Job, stop: threading.Event) -> Iterator[Event]:
    first = int(job.resume) + 1 if job.resume else 1
    for epoch in range(first, job.spec.epochs + 1):
        yield EpochEnd(metrics=_metrics(epoch))
        match job.spec.name:
            case "waits":
                stop.wait()
            case "deaf":
                threading.Event().wait()
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "dies once" if job.attempt == 1:
                yield Checkpoint(epoch=epoch, payload=str(epoch).encode())
                os.kill(os.getpid(), signal.SIGKILL)
            case "raises":
                raise RuntimeError("a secret of the trainer")
            case "diverges":
                raise TrainingDiverged(f"the loss became nan in epoch {epoch}")
            case _:
                yield Alive()
        if stop.is_set():
            yield Checkpoint(epoch=epoch, payload=str(epoch).encode())
            return
    yield Trained(
        test_loss=0.5,
        test_accuracy=0.9,
        evaluation_seconds=0.125,
        parameters=job.spec.parameters,
        weights_sha256=f"{os.getpid():064d}",
        keras=b"keras",
        onnx=bytes(range(256)) * 100,
    )


def _metrics(epoch: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        loss=1 / epoch,
        accuracy=0.5,
        val_loss=1 / epoch,
        val_accuracy=0.5,
        seconds=0.25,
        gradient_norms=(0.1, 0.2),
    )
