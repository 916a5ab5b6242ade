"""A trained network as files: `.keras` for Keras, ONNX for predictions without TensorFlow."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras

__all__ = ["to_keras", "to_onnx"]


def to_keras(network: keras.Sequential) -> bytes:
    """The network as a `.keras` archive, to be read by `keras.saving.load_model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        network.save(path)
        return path.read_bytes()


def to_onnx(network: keras.Sequential) -> bytes:
    """The network as an ONNX model: float32 (n, 784) of 0..1 in, float32 (n, 10) of probabilities out.

    `keras.Model.export` goes through tf2onnx and needs a network that was called once.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        network.export(path, format="onnx", verbose=False)
        return path.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what tf2onnx prints and warns about its own use of NumPy."""
    logger = logging.getLogger("tf2onnx")
    level, logger.disabled = logger.level, True
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = False
        logger.setLevel(level)
