"""Training: a generator of events. It reads from top to bottom; the worker and the engine only carry its events."""

import functools
import gc
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from service import datasets
from service.domain.events import (
    Alive,
    Checkpoint,
    EpochEnd,
    Event,
    Failed,
    Job,
    Member,
    Stopped,
    Stops,
    Trained,
)
from service.domain.experiment import CLASSES, EpochMetrics, HiddenLayer, Spec, judge_gradients
from service.errors import OutOfMemory, TrainingDiverged
from service.training import checkpoints, export
from service.training.gradients import Diagnosis, diagnose
from service.training.network import build_network, epoch_order, weights_sha256
from service.training.stack import Stack, Tensors

__all__ = ["train", "warm_up"]

# An epoch runs in pieces of this many steps, so that a long one can say that it is alive.
STEPS_A_CALL = 100

# A guess costs ln 10 = 2.3 nats. Softmax by logits stays finite in float32 long after a network is lost, so a loss
# this large after an epoch counts as infinite. The mean loss over an epoch does not: it holds the first steps, from
# which a network with large initial weights may recover.
DIVERGED_NATS = 1e4

Living = Mapping[int, Member]
"""The members that still train, by their place in the stack."""


def warm_up(data_dir: str) -> None:
    """Pay what every first training pays, by a small training of its own."""
    spec = Spec(activation="sigmoid", depth=2, units=1, batch_size=60_000, epochs=1)
    job = Job(members=(Member(experiment_id="", attempt=1, spec=spec),), data_dir=data_dir, checkpoint_seconds=60)
    for _ in train(job, Stops()):
        pass
    gc.collect()
    gc.freeze()  # TensorFlow's own objects are for ever: to look through them costs 0.15 s before each training


def train(job: Job, stops: Stops) -> Iterator[Event]:
    """Train some experiments as one and yield what happens, in order: epochs, checkpoints, and at last the models.

    Bit-exact: the initial weights come from each `spec.seed`, each epoch's order from `(spec.shuffle_seed, epoch)`, and
    every operation is deterministic. So a run that is resumed from a checkpoint, alone or among others, ends with the
    bits of one that was not interrupted, on the same kind of processor. A member in `stops` ends after the epoch
    under way, with a checkpoint; after the last epoch there is nothing left to stop.

    Raises:
        OutOfMemory: the networks or their batches do not fit into memory.
        DatasetUnavailable: there is no data to train on.
    """
    _configure()
    keras.backend.clear_session()  # else the names and graphs of every earlier experiment stay in memory
    spec = job.members[0].spec
    living = dict(enumerate(job.members))
    try:
        stack, done = _begin(job)
        look = tf.function(functools.partial(diagnose, stack), autograph=False)
        saved_at = time.monotonic()
        for epoch in range(done + 1, spec.epochs + 1):
            found = yield from _run_epoch(stack, look, epoch, living)
            yield from _report(found, living)
            if epoch < spec.epochs:
                due = time.monotonic() - saved_at >= job.checkpoint_seconds
                yield from _save_and_stop(stack, epoch, living, stops, due=due)
                saved_at = time.monotonic() if due else saved_at
            if not living:
                return
        yield from _finish(stack, living)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise OutOfMemory(
            f"a network of {spec.parameters:,} parameters on batches of {spec.batch_size} does not fit into memory"
        ) from None


def _begin(job: Job) -> tuple[Stack, int]:
    """The members' networks, and the epoch that they have behind them."""
    specs = [member.spec for member in job.members]
    data = _tensors(specs[0].dataset, job.data_dir)
    stack = Stack(specs, data)
    if not job.resume:
        return stack, 0
    return stack, checkpoints.restore(job.resume, stack)


def _run_epoch(
    stack: Stack, look: Callable[[], Diagnosis], epoch: int, living: Living
) -> Generator[Event, None, dict[int, EpochMetrics]]:
    begun = time.perf_counter()
    images = stack.data.images
    order = epoch_order(stack.spec, epoch, images)
    piece = STEPS_A_CALL * stack.spec.batch_size
    losses, right = tf.zeros(stack.size), tf.zeros(stack.size)
    for start in range(0, images, piece):
        loss, hits = stack.epoch(tf.constant(order[start : start + piece]))
        losses, right = losses + loss / images, right + hits / images
        if start + piece < images:
            yield Alive()
    measured = [part.numpy() for part in (losses, right, *stack.evaluate())]
    diagnosis = Diagnosis(*(part.numpy() for part in look()))
    seconds = (time.perf_counter() - begun) / len(living)
    found = {}
    for place in living:
        loss, accuracy, val_loss, val_accuracy = (float(part[place]) for part in measured)
        norms = tuple(diagnosis.gradient_norms[place].tolist())
        ratio, verdict = judge_gradients(norms)
        found[place] = EpochMetrics(
            epoch=epoch,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=seconds,
            gradient_norms=norms,
            gradient_ratio=ratio,
            gradients=verdict,
            hidden=_hidden(diagnosis, place),
        )
    return found


def _hidden(diagnosis: Diagnosis, place: int) -> tuple[HiddenLayer, ...]:
    columns = (diagnosis.means, diagnosis.deviations, diagnosis.saturated, diagnosis.dead)
    return tuple(
        HiddenLayer(mean=mean, standard_deviation=deviation, saturated=saturated, dead=dead)
        for mean, deviation, saturated, dead in zip(*(column[place].tolist() for column in columns), strict=True)
    )


def _report(found: dict[int, EpochMetrics], living: dict[int, Member]) -> Iterator[Event]:
    """The epoch's metrics; then the members whose loss is lost, who train no more."""
    yield EpochEnd(metrics={member.experiment_id: found[place] for place, member in living.items()})
    for place, metrics in found.items():
        if (lost := _lost(metrics)) is not None:
            member = living.pop(place)
            advice = f"a smaller learning_rate than {member.spec.learning_rate:g}"
            if metrics.epoch == 1:  # it may have been lost before the first step
                advice += ", another initializer, or a smaller depth"
            yield Failed(
                experiment_id=member.experiment_id,
                code=TrainingDiverged.code,
                message=f"{lost} in epoch {metrics.epoch}: {advice} may help",
            )


def _lost(metrics: EpochMetrics) -> str | None:
    """In which way training has diverged, if it has."""
    for name, value in (("loss", metrics.loss), ("val_loss", metrics.val_loss)):
        if value is None:
            return f"the {name} became infinite or no number"
    if metrics.val_loss is not None and metrics.val_loss > DIVERGED_NATS:
        return f"the val_loss became {metrics.val_loss:g}, where a guess has {math.log(CLASSES):.1f},"
    return None


def _save_and_stop(stack: Stack, epoch: int, living: dict[int, Member], stops: Stops, *, due: bool) -> Iterator[Event]:
    stopping = [place for place, member in living.items() if member.experiment_id in stops]
    for place in living if due else stopping:
        payload = checkpoints.save(stack, place, epoch)
        yield Checkpoint(experiment_id=living[place].experiment_id, epoch=epoch, payload=payload)
    for place in stopping:
        yield Stopped(experiment_id=living.pop(place).experiment_id)


def _finish(stack: Stack, living: Living) -> Iterator[Event]:
    begun = time.perf_counter()
    losses, accuracies = stack.evaluate()
    seconds = (time.perf_counter() - begun) / len(living)
    network = build_network(stack.spec)
    for place, member in living.items():
        weights = stack.weights(place)
        network.set_weights(weights)
        yield Trained(
            experiment_id=member.experiment_id,
            test_loss=float(losses[place]),
            test_accuracy=float(accuracies[place]),
            evaluation_seconds=seconds,
            parameters=network.count_params(),
            weights_sha256=weights_sha256(weights),
            keras=export.to_keras(network),
            onnx=export.to_onnx(stack.spec, weights),
        )


@functools.cache
def _configure() -> None:
    """One thread an experiment: as fast as two for networks this small, and the order of every sum is fixed."""
    tf.get_logger().setLevel("ERROR")  # it warns of a graph for every experiment, which is what is wanted
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)  # or it takes all memory, and others have none
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)


@functools.cache
def _tensors(name: str, data_dir: str) -> Tensors:
    return Tensors(datasets.load_kept(name, Path(data_dir)))
