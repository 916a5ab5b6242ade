"""A trained network as files: `.keras` for Keras, ONNX for predictions without TensorFlow."""

import contextlib
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from service.domain.experiment import PIXELS

__all__ = ["to_keras", "to_onnx"]


def to_keras(network: keras.Sequential) -> bytes:
    """The network as a `.keras` archive, to be read by `keras.saving.load_model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        network.save(path)
        return path.read_bytes()


def to_onnx(network: keras.Sequential) -> bytes:
    """The network as an ONNX model: float32 (n, 784) of 0..1 in, float32 (n, 10) of probabilities out.

    `keras.Model.export` goes through tf2onnx and refuses a network that was never called.
    """
    copy = keras.models.clone_model(network, clone_function=_exportable)
    copy.set_weights(network.get_weights())
    copy(np.zeros((1, PIXELS), dtype=np.float32))
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        copy.export(path, format="onnx", verbose=False)
        return path.read_bytes()


def _celu(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(x, 0.0) + tf.exp(tf.minimum(x, 0.0)) - 1.0


def _gelu(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2.0)))


# The same functions, in operations that ONNX has: Keras writes these with expm1 and erfc, which it has not.
_IN_ONNX = {"celu": _celu, "gelu": _gelu}


def _exportable(layer: keras.Layer) -> keras.Layer:
    config = layer.get_config()
    if config.get("activation") in _IN_ONNX:
        config["activation"] = _IN_ONNX[config["activation"]]
    return type(layer).from_config(config)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what tf2onnx prints and warns about its own use of NumPy."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
