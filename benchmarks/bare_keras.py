"""The yardstick: the same network with nothing but Keras. Prints the seconds of `fit` and `evaluate`, import and
data apart.

Usage: python -m benchmarks.bare_keras ACTIVATION DEPTH DATASETS
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import sys
import time
from pathlib import Path

import keras
import numpy as np

from service import datasets


def main(activation: str, depth: int, folder: Path) -> None:
    """Train the article's network as a notebook would."""
    arrays = datasets.load("mnist", folder)
    x_train, x_test = (images.reshape(-1, 784).astype(np.float32) / 255 for images in (arrays.x_train, arrays.x_test))
    y_train, y_test = (keras.utils.to_categorical(labels, 10) for labels in (arrays.y_train, arrays.y_test))
    keras.backend.backend()
    begun = time.perf_counter()
    network = keras.Sequential(
        [
            keras.Input((784,)),
            *(keras.layers.Dense(16, activation) for _ in range(depth)),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    network.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    network.fit(x_train, y_train, batch_size=1000, epochs=10, verbose=0)
    network.evaluate(x_test, y_test, verbose=0)
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
