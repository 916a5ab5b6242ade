"""What training does. The only package that imports TensorFlow and Keras: here, in the one way that fits it."""

import importlib
import os
import sys

# TensorFlow reads these once.
if "tensorflow" in sys.modules and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
    raise ImportError("TensorFlow was imported before service.training, with oneDNN: bits would depend on stacks")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its sums depend on what stands beside them: see `stack.py`

_PASSED_OVER = {"IPython", "matplotlib", "pandas", "pyarrow", "scipy", "sklearn"}
"""Keras and TensorFlow look for these and do without them; where they are, the import takes half as long again."""


def _import_keras() -> None:
    hidden = _PASSED_OVER - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's word for "not to be found"
    try:
        importlib.import_module("keras")
    finally:
        for name in hidden:
            del sys.modules[name]


_import_keras()
