"""A trained network as files: `.keras` for Keras, ONNX for predictions without TensorFlow."""

import contextlib
import functools
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import onnx
import tensorflow as tf

from service.domain.experiment import PIXELS, Spec
from service.training.network import build_network

__all__ = ["to_keras", "to_onnx"]

Floats = npt.NDArray[np.float32]


def to_keras(network: keras.Sequential) -> bytes:
    """The network as a `.keras` archive, to be read by `keras.saving.load_model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        network.save(path)
        return path.read_bytes()


def to_onnx(spec: Spec, weights: Sequence[Floats]) -> bytes:
    """The spec's network with these weights as an ONNX model: float32 (n, 784) of 0..1 in, float32 (n, 10) of
    probabilities out.

    Args:
        spec: what was trained.
        weights: float32 kernel (in, out) and bias (out,) of each layer, as Keras orders them.
    """
    template, names = _template(spec.activation, spec.depth, spec.units)
    model = onnx.ModelProto()
    model.CopyFrom(template)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in zip(names, weights, strict=True):
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
    data: bytes = model.SerializeToString()
    return data


@functools.lru_cache(maxsize=32)
def _template(activation: str, depth: int, units: int) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The network in ONNX, and the names of its weights there. Tracing one takes longer than training it does, and
    networks of one shape differ by nothing else.
    """
    network = build_network(Spec.model_validate({"activation": activation, "depth": depth, "units": units}))
    marks = [np.random.default_rng(i).normal(size=w.shape).astype(np.float32) for i, w in enumerate(network.weights)]
    copy = keras.models.clone_model(network, clone_function=_exportable)
    copy.set_weights(marks)
    copy(np.zeros((1, PIXELS), dtype=np.float32))  # `export` refuses a network that was never called
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        copy.export(path, format="onnx", verbose=False)
        model = onnx.load(path)
    model.doc_string = ""  # names the folder and the version of the converter: equal weights shall give equal files
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return model, tuple(_name_of(mark, arrays) for mark in marks)


def _name_of(mark: Floats, arrays: Mapping[str, Floats]) -> str:
    (name,) = [name for name, array in arrays.items() if array.shape == mark.shape and (array == mark).all()]
    return name


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
