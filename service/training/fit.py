"""Training: a generator of events. It reads from top to bottom; the worker and the engine only carry its events."""

import os

# Before TensorFlow is imported: it reads these once.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import functools
import math
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from service import datasets
from service.domain.events import Alive, Checkpoint, EpochEnd, Event, Job, Trained
from service.domain.experiment import PIXELS, EpochMetrics, Spec
from service.errors import OutOfMemory, TrainingDiverged
from service.training import checkpoints, export
from service.training.gradients import PROBE_IMAGES, kernel_gradient_norms
from service.training.network import build_network, build_optimizer, epoch_order, weights_sha256

__all__ = ["train", "warm_up"]

# An epoch runs in pieces of this many steps, so that a long one can say that it is alive.
STEPS_A_CALL = 100

# A guess costs ln 10 = 2.3 nats. Softmax by logits stays finite in float32 long after a network is lost, so a loss
# this large counts as infinite.
DIVERGED_NATS = 1e4


def warm_up(data_dir: str) -> None:
    """Pay what every first training pays: TensorFlow's settings, the data, and a small training of its own."""
    _configure()
    data = _tensors("mnist", data_dir)
    steps = _Steps(Spec(activation="relu", depth=1, units=1, batch_size=60_000, epochs=1), data)
    steps.evaluate()


def train(job: Job, stop: threading.Event) -> Iterator[Event]:
    """Train one experiment and yield what happens, in order: epochs, checkpoints, and at last the model.

    Bit-exact: the initial weights come from `spec.seed`, each epoch's order from `(spec.shuffle_seed, epoch)`, and
    every operation is deterministic, so a run that is resumed from a checkpoint ends with the bits of one that was
    not interrupted, on the same kind of processor. When `stop` is set, the generator ends after the epoch under way,
    with a checkpoint.

    Raises:
        TrainingDiverged: a loss became NaN or infinite.
        OutOfMemory: the network or its batches do not fit into memory.
        DatasetUnavailable: there is no data to train on.
    """
    _configure()
    keras.backend.clear_session()  # else the names and graphs of every earlier experiment stay in memory
    spec = job.spec
    try:
        steps = _Steps(spec, _tensors(spec.dataset, job.data_dir))
        done = checkpoints.restore(job.resume, steps.network, steps.optimizer) if job.resume else 0
        saved_at = time.monotonic()
        for epoch in range(done + 1, spec.epochs + 1):
            metrics = yield from _run_epoch(steps, epoch)
            yield EpochEnd(metrics=metrics)
            due = time.monotonic() - saved_at >= job.checkpoint_seconds
            if (due or stop.is_set()) and epoch < spec.epochs:
                yield Checkpoint(epoch=epoch, payload=checkpoints.save(steps.network, steps.optimizer, epoch))
                saved_at = time.monotonic()
            if stop.is_set():
                return
        yield _finish(steps)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise OutOfMemory(
            f"a network of {spec.parameters:,} parameters on batches of {spec.batch_size} does not fit into memory"
        ) from None


def _run_epoch(steps: "_Steps", epoch: int) -> Generator[Event, None, EpochMetrics]:
    begun = time.perf_counter()
    images = steps.data.images
    order = epoch_order(steps.spec, epoch, images)
    piece = STEPS_A_CALL * steps.spec.batch_size
    loss, accuracy = tf.constant(0.0), tf.constant(0.0)
    for start in range(0, images, piece):
        loss_sum, right = steps.epoch(tf.constant(order[start : start + piece]))
        loss, accuracy = loss + loss_sum / images, accuracy + right / images
        if start + piece < images:
            yield Alive()
    val_loss, val_accuracy = steps.evaluate()
    norms = steps.gradient_norms()
    metrics = EpochMetrics(
        epoch=epoch,
        loss=float(loss),
        accuracy=float(accuracy),
        val_loss=float(val_loss),
        val_accuracy=float(val_accuracy),
        gradient_norms=tuple(norms.numpy().tolist()),
        seconds=time.perf_counter() - begun,
    )
    for name, value in (("loss", float(loss)), ("val_loss", float(val_loss))):
        if not math.isfinite(value) or value > DIVERGED_NATS:
            raise TrainingDiverged(
                f"the {name} became {value:g} in epoch {epoch}: "
                f"a smaller learning_rate than {steps.spec.learning_rate:g} may help"
            )
    return metrics


def _finish(steps: "_Steps") -> Trained:
    begun = time.perf_counter()
    loss, accuracy = steps.evaluate()
    seconds = time.perf_counter() - begun
    return Trained(
        test_loss=float(loss),
        test_accuracy=float(accuracy),
        evaluation_seconds=seconds,
        parameters=steps.network.count_params(),
        weights_sha256=weights_sha256(steps.network),
        keras=export.to_keras(steps.network),
        onnx=export.to_onnx(steps.network),
    )


class _Tensors:
    """A dataset in memory: images uint8 (n, 784), labels int32 (n,)."""

    def __init__(self, arrays: datasets.Arrays) -> None:
        self.x_train = tf.constant(arrays.x_train.reshape(-1, PIXELS))
        self.y_train = tf.constant(arrays.y_train.astype(np.int32))
        self.x_test = tf.constant(arrays.x_test.reshape(-1, PIXELS))
        self.y_test = tf.constant(arrays.y_test.astype(np.int32))
        self.images = len(arrays.x_train)


class _Steps:
    """The compiled steps of one training. One call runs a whole epoch: no step returns to Python, which is where
    `Model.fit` spends half of its time on networks this small.
    """

    def __init__(self, spec: Spec, data: _Tensors) -> None:
        self.spec = spec
        self.data = data
        self.network = build_network(spec)
        self.optimizer = build_optimizer(spec, self.network)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def epoch(self, order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Train on these images once, in this order: int32 (n,). Returns the sum of their losses, each before its
        step, and how many were read right.
        """
        batch = self.spec.batch_size
        loss_sum, right = tf.constant(0.0), tf.constant(0.0)
        for start in tf.range(0, tf.size(order), batch):
            loss, hits, count = self._step(order[start : start + batch])
            loss_sum += loss * count
            right += hits
        return loss_sum, right

    def _step(self, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        pixels = _scaled(tf.gather(self.data.x_train, chosen))
        labels = tf.gather(self.data.y_train, chosen)
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = self.network(pixels, training=True)
            loss = _cross_entropy(labels, probabilities)
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, _hits(labels, probabilities), tf.cast(tf.size(chosen), tf.float32)

    @tf.function
    def evaluate(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean loss and accuracy on the test images."""
        labels, images = self.data.y_test, len(self.data.y_test)
        probabilities = self.network(_scaled(self.data.x_test), training=False)
        return _cross_entropy(labels, probabilities), _hits(labels, probabilities) / images

    @tf.function
    def gradient_norms(self) -> tf.Tensor:
        """The kernels' gradient norms on the probe: float32 (depth + 1,)."""
        pixels = _scaled(self.data.x_train[:PROBE_IMAGES])
        return kernel_gradient_norms(self.network, pixels, self.data.y_train[:PROBE_IMAGES])


def _scaled(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0


def _cross_entropy(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities))


def _hits(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    guesses = tf.argmax(probabilities, axis=1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(tf.equal(guesses, labels), tf.float32))


@functools.cache
def _configure() -> None:
    """One thread an experiment: as fast as two for networks this small, and the order of every sum is fixed."""
    tf.get_logger().setLevel("ERROR")  # it warns of a graph for every experiment, which is what is wanted
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)


@functools.cache
def _tensors(name: str, data_dir: str) -> _Tensors:
    return _Tensors(datasets.load(name, Path(data_dir)))
