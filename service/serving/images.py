"""From what people send to what the network was trained on: 28x28 grey pixels, white ink on black.

A 28x28 picture with a dark background is taken as it is. Any other is treated as MNIST's authors treated theirs
(`digits.py`).
"""

import base64
import binascii
import struct
from collections.abc import Callable
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from service.domain.experiment import PIXELS
from service.errors import InvalidImage
from service.serving.decoding import FORMAT_NAMES, Grey, decode
from service.serving.digits import FAINTEST, SIDE, as_mnist, blank

__all__ = ["Pixels", "Range", "Steps", "from_base64", "from_bytes", "from_many", "from_numbers"]

Pixels = npt.NDArray[np.float32]
"""float32 (n, 784), each 0..255."""
Range = Literal["0-255", "0-1"]

Steps = list[list[str]]
"""For each image, what was done to it, in order."""

BORDER = np.flatnonzero(np.pad(np.zeros((SIDE - 2, SIDE - 2), dtype=bool), 1, constant_values=True))
"""Where a 28x28 picture's border is in its 784 numbers."""


def from_bytes(data: bytes, *, max_pixels: int, steps: Steps | None = None) -> Pixels:
    """Read one PNG, JPEG, WebP, BMP, GIF or TIFF file: float32 (1, 784) of 0..255.

    Args:
        data: the file.
        max_pixels: the most pixels that it may have.
        steps: is given the list of what was done to this picture.

    Raises:
        InvalidImage: it is none, is broken, is too large, or has no ink in it.
    """
    done: list[str] = []
    if steps is not None:
        steps.append(done)
    grey = decode(data, max_pixels=max_pixels, steps=done)
    if grey.shape == (SIDE, SIDE) and _is_dark(grey):
        if grey.max() < FAINTEST:
            raise blank()
        return grey.astype(np.float32).reshape(1, PIXELS)
    return as_mnist(grey, done).reshape(1, PIXELS)


def from_base64(text: str, *, max_pixels: int, pointer: str = "", steps: Steps | None = None) -> Pixels:
    """Read one base64 picture, with or without a `data:` prefix: float32 (1, 784) of 0..255.

    Raises:
        InvalidImage: it is no base64, or no picture.
    """
    _, _, encoded = text.rpartition("base64,")
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)  # many tools break its lines
    except (binascii.Error, ValueError):
        raise InvalidImage(f"the text is no base64 of a {FORMAT_NAMES} file", pointer) from None
    try:
        return from_bytes(data, max_pixels=max_pixels, steps=steps)
    except InvalidImage as error:
        raise InvalidImage(str(error), pointer) from None


def from_numbers(values: object, *, wanted: Range | None = None, pointer: str = "") -> tuple[Pixels, Range]:
    """Read one image given as numbers.

    Args:
        values: lists of numbers, 28x28 or 784.
        wanted: what the numbers mean; None takes numbers that never exceed 1 as 0..1.
        pointer: where in the body they stand, for the error.

    Returns:
        float32 (1, 784) of 0..255, and the range that was read.

    Raises:
        InvalidImage: another shape, something else than numbers, or numbers out of range.
    """
    return _scaled(_numbers(values, pointer).reshape(1, PIXELS), wanted, lambda _: pointer)


def from_many(
    values: list[object],
    *,
    max_pixels: int,
    wanted: Range | None = None,
    pointer: str = "",
    steps: Steps | None = None,
) -> tuple[Pixels, Range]:
    """Read n images, each as numbers or as a base64 picture. One range holds for all that are numbers: what a 1
    means must not depend on the image it stands in.

    Returns:
        float32 (n, 784) of 0..255, and the range that was read.

    Raises:
        InvalidImage: one of them cannot be read; its pointer says which.
    """
    places = [place for place, value in enumerate(values) if not isinstance(value, str)]
    pixels = np.empty((len(values), PIXELS), dtype=np.float32)
    found: Range = "0-255"
    if places:
        numbers = np.stack([_numbers(values[place], f"{pointer}/{place}") for place in places])
        pixels[places], found = _scaled(numbers, wanted, lambda row: f"{pointer}/{places[row]}")
    for place, value in enumerate(values):
        if isinstance(value, str):
            pixels[place] = from_base64(value, max_pixels=max_pixels, pointer=f"{pointer}/{place}", steps=steps)
        elif steps is not None:
            steps.append([])
    return pixels, found


def _numbers(value: object, pointer: str) -> npt.NDArray[Any]:
    """The 784 numbers of one image, uint8 or float64. `np.asarray` would take "1" for a number, and make every
    number as long as the longest text beside it.
    """
    rows = _rows(value)
    if rows is None:
        raise InvalidImage(f"an image is 28x28 or 784 numbers; this one is {_shape(value)}", pointer)
    try:
        return np.frombuffer(b"".join(map(bytes, rows)), dtype=np.uint8)
    except (TypeError, ValueError, OverflowError):  # not all are whole numbers of 0..255
        pass
    try:
        return np.frombuffer(struct.pack(f"{PIXELS}d", *chain.from_iterable(rows)))
    except (struct.error, OverflowError):
        raise InvalidImage("an image is 28 rows of 28 numbers, or 784 numbers, each 0 to 255", pointer) from None


def _rows(value: object) -> list[list[Any]] | None:
    if not isinstance(value, list):
        return None
    if len(value) == SIDE and set(map(type, value)) == {list} and set(map(len, value)) == {SIDE}:
        return value
    return [value] if len(value) == PIXELS else None


def _shape(value: object) -> str:
    if not isinstance(value, list):
        return "a single value"
    widths = {len(row) if isinstance(row, list) else None for row in value}
    if widths == {None} or not widths:
        return f"{len(value)}"
    width = widths.pop()
    return f"{len(value)} rows of different lengths" if widths or width is None else f"{len(value)}x{width}"


def _scaled(array: npt.NDArray[Any], wanted: Range | None, pointer: Callable[[int], str]) -> tuple[Pixels, Range]:
    low, high = array.min(), array.max()
    found: Range = wanted or ("0-1" if high <= 1 else "0-255")
    limit = 1 if found == "0-1" else 255
    if not (low >= 0 and high <= limit):
        row = int((~((array >= 0) & (array <= limit))).any(axis=1).argmax())
        low, high = array[row].min(), array[row].max()
        raise InvalidImage(
            f"the numbers must lie between 0 and {limit}; these go from {low:g} to {high:g}", pointer(row)
        )
    scaled = array.astype(np.float32)
    return (scaled * np.float32(255) if found == "0-1" else scaled), found


def _is_dark(grey: Grey) -> bool:
    """Whether the background is: most of the border. By counts, since a median of 112 numbers takes longer than all
    the rest.
    """
    return 2 * int(np.count_nonzero(grey.reshape(-1)[BORDER] < 128)) > len(BORDER)
