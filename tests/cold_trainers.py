"""A trainer that is never ready, such as on a node whose disk hangs while TensorFlow is read."""

import threading

from tests.trainers import train

__all__ = ["train", "warm_up"]


def warm_up(data_dir: str) -> None:
    threading.Event().wait()
