# mypy: disable-error-code="import-not-found,misc,unused-ignore"
"""LitServe, with one process for HTTP and one for the model: it has no fewer.

Usage: serve_litserve.py PORT MODEL.onnx
"""

import sys
from typing import Any

import litserve
import numpy as np
import numpy.typing as npt
import onnxruntime

Floats = npt.NDArray[np.float32]


class Digits(litserve.LitAPI):
    """One image of 0..255 in; the likeliest digit and the probabilities out."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.path = model

    def setup(self, device: str) -> None:  # noqa: ARG002 - it is asked for by this name
        """Open the ONNX file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.path, options)
        self.input = self.session.get_inputs()[0].name

    def decode_request(self, request: dict[str, Any]) -> Floats:
        """Read one image, 28x28."""
        pixels: Floats = np.asarray(request["image"], dtype=np.float32).reshape(1, 784) / np.float32(255)
        return pixels

    def predict(self, x: Floats) -> Floats:
        """Ten probabilities."""
        probabilities: Floats = self.session.run(None, {self.input: x})[0][0]
        return probabilities

    def encode_response(self, output: Floats) -> dict[str, Any]:
        """Answer it."""
        return {"digit": int(output.argmax()), "probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(sys.argv[2]), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
