"""Gradients and hidden layers: what is measured is what brute force and theory say."""

from pathlib import Path

import numpy as np
import pytest

from service.domain.experiment import Spec, judge_gradients
from tests.integration.test_training import epochs_of, spec, tf, train

__all__ = ["tf"]

pytestmark = pytest.mark.slow

PROBE = 1000
SEEDS = range(8)


def diagnosed(tf, folder: Path, wanted: Spec):
    """Fresh networks of a spec with some seeds, and what is seen of them: arrays over (seed, layer)."""
    specs = [wanted.model_copy(update={"seed": seed}) for seed in SEEDS]
    stack = tf.stack.Stack(specs, tf.fit._tensors("mnist", str(folder)))
    return stack, type(found := tf.gradients.diagnose(stack))(*(part.numpy() for part in found))


def probe(mnist):
    return mnist.x_train[:PROBE].reshape(-1, 784).astype(np.float64) / 255, mnist.y_train[:PROBE].astype(np.int32)


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "gelu", "softmax"])
def test_gradient_norms_are_those_of_keras_and_a_tape(tf, mnist_dir: Path, mnist, activation: str) -> None:
    stack, found = diagnosed(tf, mnist_dir, spec(activation=activation, depth=3))
    pixels, labels = probe(mnist)
    network = tf.network.build_network(stack.spec)
    for place in (0, 5):
        network.set_weights(stack.weights(place))
        with tf.tensorflow.GradientTape() as tape:
            answers = network(pixels.astype(np.float32), training=True)
            loss = tf.tensorflow.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, answers))
        gradients = tape.gradient(loss, [layer.kernel.value for layer in network.layers])
        np.testing.assert_allclose(found.gradient_norms[place], [np.linalg.norm(g) for g in gradients], rtol=1e-4)


def loss_of(weights: list[np.ndarray], pixels: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of a tanh network in float64."""
    hidden = pixels
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        hidden = np.tanh(hidden @ kernel + bias)
    logits = hidden @ weights[-2] + weights[-1]
    logits -= logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]).mean())


def test_gradient_norms_are_those_of_finite_differences(tf, mnist_dir: Path, mnist) -> None:
    """Along its own direction, a gradient's slope is its norm."""
    stack, found = diagnosed(tf, mnist_dir, spec(activation="tanh", depth=2))
    pixels, labels = probe(mnist)
    weights = [array.astype(np.float64) for array in stack.weights(0)]
    network = tf.network.build_network(stack.spec)
    network.set_weights(stack.weights(0))
    with tf.tensorflow.GradientTape() as tape:
        answers = network(pixels.astype(np.float32), training=True)
        loss = tf.tensorflow.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, answers))
    kernels = tape.gradient(loss, [layer.kernel.value for layer in network.layers])
    for layer, gradient in enumerate(np.asarray(g, dtype=np.float64) for g in kernels):
        direction, step = gradient / np.linalg.norm(gradient), 1e-5
        ahead, behind = ([w.copy() for w in weights] for _ in range(2))
        ahead[2 * layer] += step * direction
        behind[2 * layer] -= step * direction
        slope = (loss_of(ahead, pixels, labels) - loss_of(behind, pixels, labels)) / (2 * step)
        assert found.gradient_norms[0, layer] == pytest.approx(slope, rel=1e-4)


def test_a_gradient_too_small_to_be_squared_has_a_norm(tf) -> None:
    stack = tf.tensorflow.constant([[[3e-30, 4e-30]], [[0.0, 0.0]], [[3.0, float("inf")]]])
    small, nothing, overflown = tf.gradients._norms(stack).numpy()
    assert (small, nothing) == (pytest.approx(5e-30, rel=1e-6), 0.0)
    assert not np.isfinite(overflown)


def test_layers_answer_as_by_hand(tf, mnist_dir: Path, mnist) -> None:
    pixels, _ = probe(mnist)
    for activation, function in (
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("tanh", np.tanh),
        ("relu", lambda z: np.maximum(z, 0)),
    ):
        stack, found = diagnosed(tf, mnist_dir, spec(activation=activation, depth=1, initializer="random_normal"))
        stack.variables[0].assign(stack.variables[0] * 30)  # far into the flat ends
        found = tf.gradients.diagnose(stack)
        kernel, bias, *_ = stack.weights(2)
        outputs = function(pixels @ kernel.astype(np.float64) + bias)
        assert float(found.means[2, 0]) == pytest.approx(outputs.mean(), rel=1e-4)
        assert float(found.deviations[2, 0]) == pytest.approx(outputs.std(), rel=1e-4)
        slopes = {"sigmoid": 4 * outputs * (1 - outputs), "tanh": 1 - outputs**2}.get(activation)
        if slopes is None:
            assert np.isnan(found.saturated[2, 0])
            assert float(found.dead[2, 0]) == pytest.approx((outputs.max(axis=0) <= 0).mean(), abs=1e-6)
        else:
            assert float(found.saturated[2, 0]) == pytest.approx((slopes < 0.05).mean(), abs=1e-3)
            assert 0.1 < float(found.saturated[2, 0]) < 1
            assert np.isnan(found.dead[2, 0])


def test_dead_units_are_counted(tf, mnist_dir: Path) -> None:
    stack, _ = diagnosed(tf, mnist_dir, spec(depth=2))
    biases = stack.variables[1].numpy()
    biases[:, :4] = -1e6  # a quarter of the first layer's 16 units
    stack.variables[1].assign(biases)
    found = tf.gradients.diagnose(stack)
    assert (found.dead.numpy()[:, 0] >= 0.25).all()
    assert (found.dead.numpy()[:, 0] < 0.6).all()


def factor(tf, folder: Path, activation: str) -> float:
    """By how much one more layer changes the first layer's gradient against the last's: geometric mean over depths
    2 to 7 of what it is over the seeds.
    """
    ratios = [
        np.exp(np.log(norms[:, 0] / norms[:, -1]).mean())
        for depth in (2, 7)
        for norms in [diagnosed(tf, folder, spec(activation=activation, depth=depth))[1].gradient_norms]
    ]
    return float((ratios[1] / ratios[0]) ** (1 / 5))


def test_theory_a_sigmoid_layer_lets_at_most_a_quarter_through_and_a_relu_layer_far_more(tf, mnist_dir: Path) -> None:
    """The slope of sigmoid is at most 1/4, and Glorot's kernels neither enlarge nor shrink what comes back on the
    average over many units; that of ReLU is 1 for the half that is positive.
    """
    assert 0.15 < factor(tf, mnist_dir, "sigmoid") < 0.27
    assert 0.5 < factor(tf, mnist_dir, "relu") < 1.1
    assert 0.6 < factor(tf, mnist_dir, "tanh") < 1.1


def test_a_deep_sigmoid_network_is_told_to_vanish_and_a_relu_network_to_be_healthy(tf, mnist_dir: Path) -> None:
    for activation, verdict in (("sigmoid", "vanishing"), ("relu", "healthy")):
        (metrics,) = epochs_of(train(tf, mnist_dir, spec(activation=activation, depth=5, epochs=1)))
        assert metrics["gradients"] == verdict
        hidden = metrics["hidden"]
        assert isinstance(hidden, tuple)
        assert len(hidden) == 5


@pytest.mark.parametrize(
    ("norms", "ratio", "verdict"),
    [
        ((1.0, 2.0), 0.5, "healthy"),
        ((0.05, 9.0, 1.0), 0.05, "vanishing"),
        ((11.0, 1.0), 11.0, "exploding"),
        ((float("nan"), 1.0), None, "exploding"),
        ((1.0, float("inf")), None, "exploding"),
        ((0.0, 0.0), None, "vanishing"),
    ],
)
def test_verdicts(norms: tuple[float, ...], ratio: float | None, verdict: str) -> None:
    assert judge_gradients(norms) == (ratio, verdict)
