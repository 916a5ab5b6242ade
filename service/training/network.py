"""From a spec to a Keras network, its optimizer, and the numbers that make them reproducible."""

import hashlib
from typing import Any

import keras
import numpy as np

from service.domain.experiment import CLASSES, PIXELS, Spec

__all__ = ["build_network", "build_optimizer", "epoch_order", "weights_sha256"]


def build_network(spec: Spec) -> keras.Sequential:
    """The spec's network: float32 (n, 784) of 0..1 in, float32 (n, 10) of probabilities out.

    Each kernel is drawn from `(spec.seed, layer)`, so a deeper network begins with the same first layers.
    """
    layers = [keras.Input((PIXELS,), name="pixels")]
    layers += [
        keras.layers.Dense(
            spec.units,
            activation=spec.activation,
            kernel_initializer=_initializer(spec, layer),
            name=f"hidden_{layer}",
        )
        for layer in range(1, spec.depth + 1)
    ]
    layers.append(
        keras.layers.Dense(
            CLASSES,
            activation="softmax",
            kernel_initializer=_initializer(spec, spec.depth + 1),
            name="probabilities",
        )
    )
    return keras.Sequential(layers)


def build_optimizer(spec: Spec, network: keras.Sequential) -> keras.optimizers.Optimizer:
    """Keras's optimizer of the spec's name, with its variables made for the network."""
    optimizer = keras.optimizers.get({"class_name": spec.optimizer, "config": {"learning_rate": spec.learning_rate}})
    optimizer.build(network.trainable_variables)
    return optimizer


def epoch_order(spec: Spec, epoch: int, images: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The order of the training images in an epoch: int32 (images,), drawn from `(shuffle_seed, epoch)` alone."""
    return np.random.default_rng([spec.shuffle_seed, epoch]).permutation(images).astype(np.int32)


def weights_sha256(network: keras.Sequential) -> str:
    """SHA-256 over the weights' little-endian float32 bytes, layer by layer, kernel before bias."""
    digest = hashlib.sha256()
    for weights in network.get_weights():
        digest.update(np.ascontiguousarray(weights, dtype="<f4").tobytes())
    return digest.hexdigest()


def _initializer(spec: Spec, layer: int) -> keras.initializers.Initializer:
    initializer = keras.initializers.get(spec.initializer)
    config = initializer.get_config()
    if "seed" in config:
        config["seed"] = int(np.random.SeedSequence([spec.seed, layer]).generate_state(1)[0] >> 1)
    return type(initializer).from_config(config)
