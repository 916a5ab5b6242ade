"""Networks that differ by their initial weights alone, trained as one: the first products of all of them are one wide
product over shared batches, the inner ones are batched, and optimizers work element by element.

Each network's numbers are the same bits whatever it is stacked with, and alone. That holds because TensorFlow's own
matrix products (Eigen's, on one thread) add up in an order that depends on the length of the sum only; oneDNN's do not,
so this package turns those off. Two things would break it, and are avoided here:

- Functions such as exp and log are computed in packets of up to 16 numbers, and what is left over by another routine.
  So every batch is filled up to a multiple of `PACKET` images, which then count nothing.
- A batched product of one small matrix takes another routine than one of many. So where one is small, a network that is
  alone is stacked with a copy of itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from service import datasets
from service.domain.experiment import CLASSES, PIXELS, Spec
from service.training.network import initial_weights

__all__ = ["PROBE_IMAGES", "Stack", "Tensors", "cross_entropy", "filled", "scaled"]

PACKET = 16
PROBE_IMAGES = 1000
"""Training images on which gradients and layers are looked at."""
EVALUATED_AT_ONCE = 2000
"""Test images: what bounds the memory of an evaluation. A multiple of PACKET."""
SMALL_PRODUCT = 128 * 128
"""Multiplications up to which TensorFlow takes another routine for one matrix than for a batch of them
(kMaxCostOuterParallelism in its batch_matmul_op_impl.h).
"""

Floats = npt.NDArray[np.float32]


class Tensors:
    """A dataset in memory: images uint8 (n, 784), labels int32 (n,)."""

    def __init__(self, arrays: datasets.Arrays) -> None:
        self.x_train = tf.constant(arrays.x_train.reshape(-1, PIXELS))
        self.y_train = tf.constant(arrays.y_train.astype(np.int32))
        self.x_test = tf.constant(arrays.x_test.reshape(-1, PIXELS))
        self.y_test = tf.constant(arrays.y_test.astype(np.int32))
        self.images = len(arrays.x_train)


class Stack:
    """S networks of one spec but for the seed, and their optimizer.

    Kernels are float32 (S, out, in), biases (S, out, 1), layers' outputs (S, out, n): so no product transposes what
    another one gave.
    """

    def __init__(self, specs: Sequence[Spec], data: Tensors) -> None:
        """Draw the initial weights. `specs` differ by `seed` only, besides what training does not read."""
        self.spec = specs[0]
        self.data = data
        doubled = len(specs) == 1 and _has_small_product(self.spec, data.images)
        drawn = [initial_weights(spec) for spec in specs] * (2 if doubled else 1)
        self.size = len(drawn)
        self.variables = [
            keras.Variable(np.stack([_turned(weights[i]) for weights in drawn]), name=f"weights_{i}")
            for i in range(len(drawn[0]))
        ]
        self.optimizer = _optimizer(self.spec, self.variables)

    @property
    def _layers(self) -> list[tuple[tf.Tensor, tf.Tensor]]:
        values = [variable.value for variable in self.variables]
        return list(zip(values[::2], values[1::2], strict=True))

    def weights(self, member: int) -> list[Floats]:
        """One network's weights as Keras has them: kernel (in, out) and bias (out,) of each layer."""
        values = [variable.value.numpy()[member] for variable in self.variables]
        return [np.ascontiguousarray(value[:, 0] if i % 2 else value.T) for i, value in enumerate(values)]

    def state(self, member: int) -> dict[str, npt.NDArray[Any]]:
        """What training needs to go on: one network's slices, and what the optimizer shares."""
        found = {f"weights_{i}": variable.value.numpy()[member] for i, variable in enumerate(self.variables)}
        for i, variable in enumerate(self.optimizer.variables):
            value = variable.numpy()
            found[f"optimizer_{i}"] = value[member] if value.ndim else value
        return found

    def load(self, states: Sequence[dict[str, npt.NDArray[Any]]]) -> None:
        """Put `state`s of the same epoch back, one for each network.

        Raises:
            ValueError: they are of other networks.
        """
        states = [*states, *states] if len(states) < self.size else states
        for prefix, variables in (("weights", self.variables), ("optimizer", self.optimizer.variables)):
            for i, variable in enumerate(variables):
                slices = [state[f"{prefix}_{i}"] for state in states]
                variable.assign(np.stack(slices) if len(variable.shape) else slices[0])

    def forward(self, pixels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Logits float32 (S, 10, n) of float32 (n, 784) pixels, and each hidden layer's output (S, units, n)."""
        (kernel, bias), *others = self._layers
        flat = tf.matmul(tf.reshape(kernel, (-1, PIXELS)), pixels, transpose_b=True)
        sums = tf.reshape(flat, (self.size, self.spec.units, -1)) + bias
        activation = _activation(self.spec)
        hidden = []
        for kernel, bias in others:
            hidden.append(activation(sums))
            sums = tf.matmul(kernel, hidden[-1]) + bias
        return sums, hidden

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def epoch(self, order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Train on these images once, in this order: int32 (n,). Returns for each network the sum of the images'
        losses, each before its step, and how many were read right: float32 (S,) each.
        """
        batch = self.spec.batch_size
        return self._summed(lambda start: self._step(order[start : start + batch]), tf.size(order), batch)

    def _step(self, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen, counts = filled(chosen)
        pixels = scaled(tf.gather(self.data.x_train, chosen))
        labels = tf.gather(self.data.y_train, chosen)
        with tf.GradientTape() as tape:
            logits, _ = self.forward(pixels)
            losses = cross_entropy(labels, logits, counts)
            # The sum's gradient by one network's weights is that of its own loss.
            mean = tf.reduce_sum(losses) / tf.reduce_sum(counts)
        self.optimizer.apply(tape.gradient(mean, self.variables), self.variables)
        return losses, _hits(labels, logits, counts)

    @tf.function(autograph=False)
    def evaluate(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean loss and accuracy of each network on the test images: float32 (S,) each."""
        images = len(self.data.y_test)

        def part(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen, counts = filled(tf.range(start, tf.minimum(start + EVALUATED_AT_ONCE, images)))
            labels = tf.gather(self.data.y_test, chosen)
            logits, _ = self.forward(scaled(tf.gather(self.data.x_test, chosen)))
            return cross_entropy(labels, logits, counts), _hits(labels, logits, counts)

        losses, right = self._summed(part, images, EVALUATED_AT_ONCE)
        return losses / images, right / images

    def _summed(
        self, part: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]], end: tf.Tensor | int, step: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The sums of what `part` gives for 0, step, ... below the end: float32 (S,) each."""

        def body(start: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return start + step, *(total + more for total, more in zip(sums, part(start), strict=True))

        # Written out: AutoGraph makes the same of a `for`, but reading the code takes it a second in every new process.
        _, losses, right = tf.while_loop(
            lambda start, *_: start < end,
            body,
            (tf.constant(0), tf.zeros(self.size), tf.zeros(self.size)),
            parallel_iterations=1,
        )
        return losses, right


def filled(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Indices int32 (n,) filled up to a multiple of PACKET, and how often each counts: float32 (m,) of 1 and 0."""
    count = tf.size(chosen)
    filling = -count % PACKET
    counts = tf.concat([tf.ones(count), tf.zeros(filling)], 0)
    return tf.pad(chosen, [[0, filling]]), counts


def scaled(images: tf.Tensor) -> tf.Tensor:
    """Pixels 0..255 as float32 0..1."""
    return tf.cast(images, tf.float32) / 255.0


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Sum of the images' cross-entropies, in nats: float32 (S,) from int32 (n,), float32 (S, 10, n) and (n,)."""
    logits -= tf.stop_gradient(tf.reduce_max(logits, axis=1, keepdims=True))
    wanted = tf.transpose(tf.one_hot(labels, CLASSES))
    right = tf.reduce_sum(logits * wanted, axis=1)
    return tf.reduce_sum((tf.math.log(tf.reduce_sum(tf.exp(logits), axis=1)) - right) * counts, axis=1)


def _hits(labels: tf.Tensor, logits: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    guesses = tf.argmax(logits, axis=1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(guesses == labels, tf.float32) * counts, axis=1)


def _activation(spec: Spec) -> Any:  # noqa: ANN401 - a function of Keras's
    """The hidden layers' activation, for units along axis 1."""
    activation = keras.activations.get(spec.activation)
    if spec.mixes_units:
        return lambda sums: activation(sums, axis=1)
    return activation


def _has_small_product(spec: Spec, images: int) -> bool:
    batches = {spec.batch_size, images % spec.batch_size or spec.batch_size, EVALUATED_AT_ONCE, PROBE_IMAGES}
    fewest = min(-(-batch // PACKET) * PACKET for batch in batches)
    kernels = [CLASSES * spec.units] + ([spec.units**2] if spec.depth > 1 else [])
    return spec.units == 1 or min(kernels) * fewest <= SMALL_PRODUCT


def _optimizer(spec: Spec, variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    """Keras's optimizer of the spec's name. All of them work element by element, so a stack is one variable."""
    optimizer = keras.optimizers.get({"class_name": spec.optimizer, "config": {"learning_rate": spec.learning_rate}})
    optimizer.build(variables)
    return optimizer


def _turned(weights: Floats) -> Floats:
    """A kernel (in, out) as (out, in), a bias (out,) as (out, 1)."""
    return weights.T if weights.ndim == 2 else weights[:, None]
