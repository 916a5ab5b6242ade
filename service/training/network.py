"""From a spec to a Keras network, its optimizer, and the numbers that make them reproducible."""

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from service.domain.experiment import CLASSES, PIXELS, Spec

__all__ = ["build_network", "epoch_order", "initial_weights", "weights_sha256"]


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


def initial_weights(spec: Spec) -> list[npt.NDArray[np.float32]]:
    """What `build_network` begins with: kernel float32 (in, out) and bias (out,) of each layer."""
    sizes = [PIXELS, *[spec.units] * spec.depth, CLASSES]
    weights = []
    for layer, shape in enumerate(pairwise(sizes), 1):
        weights.append(np.asarray(_initializer(spec, layer)(shape, dtype="float32")))
        weights.append(np.zeros(shape[1], dtype=np.float32))
    return weights


def epoch_order(spec: Spec, epoch: int, images: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The order of the training images in an epoch: int32 (images,), drawn from `(shuffle_seed, epoch)` alone."""
    return np.random.default_rng([spec.shuffle_seed, epoch]).permutation(images).astype(np.int32)


def weights_sha256(weights: Iterable[npt.NDArray[np.float32]]) -> str:
    """SHA-256 over the weights' little-endian float32 bytes, layer by layer, kernel before bias."""
    digest = hashlib.sha256()
    for array in weights:
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()


def _initializer(spec: Spec, layer: int) -> keras.initializers.Initializer:
    initializer = keras.initializers.get(spec.initializer)
    config = initializer.get_config()
    if "seed" in config:
        config["seed"] = int(np.random.SeedSequence([spec.seed, layer]).generate_state(1)[0] >> 1)
    return type(initializer).from_config(config)
