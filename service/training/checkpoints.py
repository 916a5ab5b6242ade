"""A checkpoint's bytes: an `.npz` of weights, optimizer state, and the last epoch."""

import io

import keras
import numpy as np

__all__ = ["restore", "save"]


def save(network: keras.Sequential, optimizer: keras.optimizers.Optimizer, epoch: int) -> bytes:
    """All that training needs to go on after `epoch` with the same bits."""
    arrays = {"epoch": np.int64(epoch)}
    arrays |= {f"weight_{i}": variable.numpy() for i, variable in enumerate(network.variables)}
    arrays |= {f"optimizer_{i}": variable.numpy() for i, variable in enumerate(optimizer.variables)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def restore(payload: bytes, network: keras.Sequential, optimizer: keras.optimizers.Optimizer) -> int:
    """Put a checkpoint of the same spec into a network and its optimizer, and return its epoch.

    Raises:
        ValueError: the checkpoint is of another network.
    """
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        for prefix, variables in (("weight", network.variables), ("optimizer", optimizer.variables)):
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{prefix}_{i}"])
        return int(arrays["epoch"])
