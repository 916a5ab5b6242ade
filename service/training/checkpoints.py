"""A checkpoint's bytes: an `.npz` of weights, optimizer state, and the last epoch."""

import io
from collections.abc import Sequence

import numpy as np

from service.training.stack import Stack

__all__ = ["restore", "save"]


def save(stack: Stack, member: int, epoch: int) -> bytes:
    """All that one network's training needs to go on after `epoch` with the same bits, alone or in another stack."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, epoch=np.int64(epoch), **stack.state(member))
    return buffer.getvalue()


def restore(payloads: Sequence[bytes], stack: Stack) -> int:
    """Put checkpoints of the same specs and the same epoch into a stack, and return the epoch.

    Raises:
        ValueError: the checkpoints are of other networks, or of different epochs.
    """
    states = []
    for payload in payloads:
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            states.append({name: arrays[name] for name in arrays.files})
    epochs = {int(state.pop("epoch")) for state in states}
    if len(epochs) != 1:
        raise ValueError(f"checkpoints of different epochs cannot be stacked: {sorted(epochs)}")
    stack.load(states)
    return epochs.pop()
