# mypy: disable-error-code="import-not-found,misc,untyped-decorator,unused-ignore"
"""BentoML, at its fastest: no access log, no metrics, one worker, answers on the event loop.

Usage: MODEL=model.onnx bentoml serve serve_bentoml:Digits --port PORT
"""

import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Digits:
    """One image of 0..255 in; the likeliest digit and the probabilities out."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        self.input = self.session.get_inputs()[0].name

    @bentoml.api
    async def predict(self, image: list[list[float]]) -> dict[str, Any]:
        """Answer one image, 28x28."""
        pixels = np.asarray(image, dtype=np.float32).reshape(1, 784) / np.float32(255)
        probabilities: Any = self.session.run(None, {self.input: pixels})[0][0]
        return {"digit": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
