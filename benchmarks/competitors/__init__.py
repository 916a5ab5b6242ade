"""Other servers with the same ONNX file: each program is run by the Python of an environment of its own, never imported
from here, and hence imports nothing of epochd.
"""
