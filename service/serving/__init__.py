"""Answers from saved models with ONNX Runtime, without TensorFlow."""
