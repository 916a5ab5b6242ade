"""What the processes that train know of our environment, and what they leave in it."""

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

__all__ = ["log_format", "native_libraries_silenced", "traces_wanted", "without_secrets"]

SECRET = ("EPOCHD_", "PG", "AWS_", "AZURE_", "GOOGLE_")
HARMLESS = frozenset({"EPOCHD_LOG_FORMAT", "EPOCHD_OTEL"})
EXPORTS = "OTEL_"
"""How to send traces. A token of the collector's may be among it: only who sends some is given it."""


def without_secrets() -> dict[str, str]:
    """The environment, less how to reach the database and the blobs."""
    secret = SECRET if traces_wanted() else (*SECRET, EXPORTS)
    return {name: value for name, value in os.environ.items() if name in HARMLESS or not name.startswith(secret)}


def log_format() -> Literal["text", "json"]:
    """How a process that trains writes its log: it has no settings."""
    return "json" if os.environ.get("EPOCHD_LOG_FORMAT", "").lower() == "json" else "text"


def traces_wanted() -> bool:
    """Whether a process that trains sends traces."""
    return os.environ.get("EPOCHD_OTEL", "").lower() in {"1", "true", "yes", "on", "t", "y"}


@contextlib.contextmanager
def native_libraries_silenced() -> Iterator[None]:
    """TensorFlow's and Ray's C++ greet on standard error before any setting of a log level counts. What Python raises
    is shown all the same, once the block has ended.
    """
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
