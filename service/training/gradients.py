"""What one can see vanish: how large the loss's gradient is at each layer, and how its units answer.

After X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), who
look at both, layer by layer, while training goes on.
"""

from typing import NamedTuple

import tensorflow as tf

from service.training.stack import PROBE_IMAGES, Stack, cross_entropy, filled, scaled

__all__ = ["Diagnosis", "diagnose"]

SATURATED_SLOPE = 0.05
"""Below this part of its steepest slope an activation counts as saturated: next to nothing comes back through it."""
# Activations with two flat ends, and the slope at an output, by the steepest.
SLOPES = {
    "sigmoid": lambda outputs: 4.0 * outputs * (1.0 - outputs),
    "tanh": lambda outputs: 1.0 - outputs * outputs,
    "softsign": lambda outputs: (1.0 - tf.abs(outputs)) ** 2,
    "hard_sigmoid": lambda outputs: tf.cast((outputs > 0.0) & (outputs < 1.0), tf.float32),
    "hard_tanh": lambda outputs: tf.cast(tf.abs(outputs) < 1.0, tf.float32),
}
# Activations that are exactly zero, with slope zero, for all negative sums: a unit can be so for every image.
CAN_DIE = frozenset({"relu", "relu6"})


class Diagnosis(NamedTuple):
    """Of each of S networks, on the probe."""

    gradient_norms: tf.Tensor
    """float32 (S, depth + 1): Euclidean norm of the mean cross-entropy's gradient by each layer's kernel."""
    means: tf.Tensor
    """float32 (S, depth): of a hidden layer's outputs, over units and images."""
    deviations: tf.Tensor
    """float32 (S, depth): their standard deviation."""
    saturated: tf.Tensor
    """float32 (S, depth): share of outputs where the activation is flat; NaN for activations without flat ends."""
    dead: tf.Tensor
    """float32 (S, depth): share of units that are zero for every image; NaN for activations that cannot be."""


def diagnose(stack: Stack) -> Diagnosis:
    """Look at each network on the first PROBE_IMAGES training images."""
    chosen, counts = filled(tf.range(PROBE_IMAGES))
    pixels = scaled(tf.gather(stack.data.x_train, chosen))
    labels = tf.gather(stack.data.y_train, chosen)
    kernels = [variable.value for variable in stack.variables[::2]]
    with tf.GradientTape() as tape:
        tape.watch(kernels)
        logits, hidden = stack.forward(pixels)
        mean = tf.reduce_sum(cross_entropy(labels, logits, counts)) / PROBE_IMAGES
    gradients = tape.gradient(mean, kernels)
    outputs = [layer[:, :, :PROBE_IMAGES] for layer in hidden]
    return Diagnosis(
        gradient_norms=tf.stack(list(map(_norms, gradients)), axis=1),
        means=tf.stack([tf.reduce_mean(layer, axis=[1, 2]) for layer in outputs], axis=1),
        deviations=tf.stack([tf.math.reduce_std(layer, axis=[1, 2]) for layer in outputs], axis=1),
        saturated=tf.stack([_saturated(stack.spec.activation, layer) for layer in outputs], axis=1),
        dead=tf.stack([_dead(stack.spec.activation, layer) for layer in outputs], axis=1),
    )


def _norms(gradient: tf.Tensor) -> tf.Tensor:
    """Euclidean norm of each network's: float32 (S,) of (S, out, in)."""
    # Scaled by the largest: squares of what comes through 20 layers of sigmoid are below the least float32.
    largest = tf.reduce_max(tf.abs(gradient), axis=[1, 2], keepdims=True)
    parts = tf.math.divide_no_nan(gradient, largest)
    return largest[:, 0, 0] * tf.sqrt(tf.reduce_sum(parts * parts, axis=[1, 2]))


def _saturated(activation: str, outputs: tf.Tensor) -> tf.Tensor:
    if activation not in SLOPES:
        return tf.fill([outputs.shape[0]], float("nan"))
    flat = SLOPES[activation](outputs) < SATURATED_SLOPE
    return tf.reduce_mean(tf.cast(flat, tf.float32), axis=[1, 2])


def _dead(activation: str, outputs: tf.Tensor) -> tf.Tensor:
    if activation not in CAN_DIE:
        return tf.fill([outputs.shape[0]], float("nan"))
    silent = tf.reduce_max(outputs, axis=2) <= 0.0
    return tf.reduce_mean(tf.cast(silent, tf.float32), axis=1)
