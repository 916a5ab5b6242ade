"""A trainer without TensorFlow that behaves as the experiment's name says, for what engines and workers must bear.

Loaded by its import path in a real trainer process.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from service import datasets
from service.domain.events import Alive, Checkpoint, EpochEnd, Event, Failed, Job, Member, Stopped, Stops, Trained
from service.domain.experiment import EpochMetrics
from service.errors import OutOfMemory


def warm_up(data_dir: str) -> None:
    """Nothing is needed."""


def train(job: Job, stops: Stops) -> Iterator[Event]:
    living = {member.experiment_id: member for member in job.members}
    first = int(job.resume[0]) + 1 if job.resume else 1
    for epoch in range(first, job.members[0].spec.epochs + 1):
        yield EpochEnd(metrics={name: _metrics(epoch) for name in living})
        for member in list(living.values()):
            for event in _behave(member, job, epoch, stops):
                yield event
                if isinstance(event, Failed):
                    del living[event.experiment_id]
        for name in [name for name in living if name in stops]:
            yield Checkpoint(experiment_id=name, epoch=epoch, payload=str(epoch).encode())
            yield Stopped(experiment_id=name)
            del living[name]
        if not living:
            return
    for member in living.values():
        yield Trained(
            experiment_id=member.experiment_id,
            test_loss=0.5,
            test_accuracy=0.9,
            evaluation_seconds=0.125,
            parameters=member.spec.parameters,
            weights_sha256=f"{os.getpid():064d}",
            keras=b"keras",
            onnx=bytes(range(256)) * 100,
        )


def _behave(member: Member, job: Job, epoch: int, stops: Stops) -> Iterator[Event]:  # noqa: C901 - one case for each name
    match member.spec.name:
        case "waits":
            stops.wait(member.experiment_id)
        case "reads its dataset":
            datasets.load_kept(member.spec.dataset, Path(job.data_dir))
        case "deaf":
            threading.Event().wait()
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "keeps checkpoints":
            yield Checkpoint(experiment_id=member.experiment_id, epoch=epoch, payload=str(epoch).encode())
        case "dies once" if member.attempt == 1:
            yield Checkpoint(experiment_id=member.experiment_id, epoch=epoch, payload=str(epoch).encode())
            os.kill(os.getpid(), signal.SIGKILL)
        case "tells its devices and process":
            message = f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.getpid()}"
            yield Failed(experiment_id=member.experiment_id, code="internal", message=message)
            threading.Event().wait()
        case "eats memory":
            bytearray(64 * 2**30)
        case "computes" if epoch > 1:
            until = time.process_time() + 0.2
            while time.process_time() < until:
                pass
        case "raises":
            raise RuntimeError("a secret of the trainer")
        case "too large together" if len(job.members) > 1:
            raise OutOfMemory("too large together")
        case "diverges":
            message = f"the loss became nan in epoch {epoch}"
            yield Failed(experiment_id=member.experiment_id, code="training_diverged", message=message)
        case _:
            yield Alive()


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
