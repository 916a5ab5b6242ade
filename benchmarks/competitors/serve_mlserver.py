# mypy: disable-error-code="import-not-found,misc,unused-ignore"
"""MLServer, with its own settings or at its fastest: then without access log, compression and metrics. The model is in
the server's own process either way (with uvloop 0.23, which it installs, MLServer 1.7.1's worker processes end at their
start).

Usage: serve_mlserver.py PORT GRPC_PORT MODEL.onnx [fastest]
"""

import asyncio
import sys
import tempfile
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    """FP32 [n, 784] of 0..1 in; probabilities and the likeliest digit out."""

    async def load(self) -> bool:
        """Open the ONNX file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self.input = self.session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a request of the Open Inference Protocol."""
        pixels = NumpyCodec.decode_input(payload.inputs[0])
        probabilities: Any = self.session.run(None, {self.input: pixels})[0]
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                NumpyCodec.encode_output("probabilities", probabilities),
                NumpyCodec.encode_output("digit", np.argmax(probabilities, axis=1)),
            ],
        )


FASTEST: dict[str, Any] = {"debug": False, "metrics_endpoint": None, "gzip_enabled": False}


async def serve(port: int, grpc_port: int, model: str, *, fastest: bool) -> None:
    """Run until SIGTERM."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            parallel_workers=0,
            host="127.0.0.1",
            http_port=port,
            grpc_port=grpc_port,
            metrics_dir=folder,
            environments_dir=folder,
            **(FASTEST if fastest else {}),
        )
        digits = ModelSettings(name="digits", implementation=Digits, parameters={"uri": model})
        await MLServer(settings).start([digits])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], fastest="fastest" in sys.argv[4:]))
