"""From what people send to what the network was trained on: 28x28 grey pixels, white ink on black.

A 28x28 picture with a dark background is taken as it is. Any other is treated as MNIST's authors did
(http://yann.lecun.com/exdb/mnist): fitted into 20x20 with its aspect kept, and centred by its centre of mass.
"""

import base64
import binascii
import io
import struct
from array import array
from collections.abc import Callable
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from service.domain.experiment import PIXELS
from service.errors import InvalidImage

__all__ = ["Pixels", "Range", "from_base64", "from_bytes", "from_many", "from_numbers"]

Pixels = npt.NDArray[np.float32]
"""float32 (n, 784), each 0..255."""
Range = Literal["0-255", "0-1"]

SIDE = 28
BOX = 20
FORMATS = ("PNG", "JPEG", "WEBP")
INK = 0.1
"""Share of the brightest pixel from which a pixel counts as ink."""
ORIENTATION = 0x0112
"""EXIF's tag of how a camera was held, and what turns each of its values upright."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Every picture's size is checked here against the operator's limit. Pillow's own limit is lower than that may be,
# and warns before it raises: no filter of warnings can be set and put back safely from many threads.
Image.MAX_IMAGE_PIXELS = None


def from_bytes(data: bytes, *, max_pixels: int) -> Pixels:
    """Read one PNG, JPEG or WebP file: float32 (1, 784) of 0..255.

    Raises:
        InvalidImage: it is none, is broken, is too large, or has no ink in it.
    """
    grey = _grey(_decode(data, max_pixels))
    if grey.shape == (SIDE, SIDE) and _background(grey) < 128:
        return grey.reshape(1, PIXELS)
    return _as_mnist(grey).reshape(1, PIXELS)


def from_base64(text: str, *, max_pixels: int, pointer: str = "") -> Pixels:
    """Read one base64 picture, with or without a `data:` prefix: float32 (1, 784) of 0..255.

    Raises:
        InvalidImage: it is no base64, or no picture.
    """
    _, _, encoded = text.rpartition("base64,")
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)  # many tools break its lines
    except (binascii.Error, ValueError):
        raise InvalidImage("the text is no base64 of a PNG, JPEG or WebP file", pointer) from None
    try:
        return from_bytes(data, max_pixels=max_pixels)
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
    values: list[object], *, max_pixels: int, wanted: Range | None = None, pointer: str = ""
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
            pixels[place] = from_base64(value, max_pixels=max_pixels, pointer=f"{pointer}/{place}")
    return pixels, found


def _numbers(value: object, pointer: str) -> npt.NDArray[Any]:
    """The 784 numbers of one image, uint8 or float64. `np.asarray` would take "1" for a number, and make every
    number as long as the longest text beside it.
    """
    flat = _flat(value)
    if flat is None:
        raise InvalidImage(f"an image is 28x28 or 784 numbers; this one is {_shape(value)}", pointer)
    try:
        return np.frombuffer(bytes(flat), dtype=np.uint8)
    except (TypeError, ValueError, OverflowError):  # not all are whole numbers of 0..255
        pass
    try:
        return np.frombuffer(array("d", flat))
    except (TypeError, OverflowError):
        raise InvalidImage("an image is 28 rows of 28 numbers, or 784 numbers, each 0 to 255", pointer) from None


def _flat(value: object) -> list[Any] | None:
    if not isinstance(value, list):
        return None
    if len(value) == SIDE and all(isinstance(row, list) and len(row) == SIDE for row in value):
        return list(chain.from_iterable(value))
    return value if len(value) == PIXELS else None


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


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    """Open a picture. Its size is checked before a pixel is decoded, so a decompression bomb costs nothing."""
    if not data:
        raise InvalidImage("the picture is empty: 0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width < 1 or height < 1:
            raise InvalidImage(f"the picture has no pixels: it is {width}x{height}")
        if width * height > max_pixels:
            raise InvalidImage(
                f"the picture is {width}x{height}; at most {max_pixels:,} pixels are read: send a smaller one"
            )
        image.load()
    except UnidentifiedImageError:
        raise InvalidImage("the bytes are no PNG, JPEG or WebP picture, whatever their name says") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
        raise InvalidImage("the picture is broken or cut short") from None
    return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; as it is where they cannot be read."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return image
    return image if turn is None else image.transpose(turn)


def _grey(image: Image.Image) -> Pixels:
    """Luminance: float32 (height, width) of 0..255. Transparent pixels show the white paper behind them, or black
    where the opaque ones are light.
    """
    if image.mode in {"I;16", "I;16B", "I;16L", "I", "F"}:
        wide: Pixels = np.asarray(image, dtype=np.float32)
        return np.asarray(wide / 257, dtype=np.float32) if wide.max(initial=0) > 255 else wide
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"), dtype=np.float32) / 255
        light = np.asarray(rgba.convert("RGB").convert("L"), dtype=np.float32)
        opaque = light[alpha > 0.5]
        behind = 0.0 if opaque.size and opaque.mean() > 128 else 255.0
        return np.asarray(light * alpha + behind * (1 - alpha), dtype=np.float32)
    return np.asarray(image.convert("L"), dtype=np.float32)


def _background(grey: Pixels) -> float:
    """Brightness of the background: the median of the border."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return float(np.median(border))


def _as_mnist(grey: Pixels) -> Pixels:
    """Any picture of one digit as MNIST would have it: float32 (28, 28) of 0..255."""
    ink = 255 - grey if _background(grey) >= 128 else grey
    ink = np.clip(ink - ink.min(), 0, None)
    brightest = ink.max(initial=0)
    if brightest < 16:
        raise InvalidImage("there is no ink in the picture: it is all of one colour")
    ink = ink * (255 / brightest)
    rows, columns = np.nonzero(ink > INK * 255)
    digit = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return _centred(_fitted(digit))


def _fitted(digit: Pixels) -> Pixels:
    """Scaled so that the longer side is 20."""
    height, width = digit.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(digit).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    return np.clip(np.asarray(small, dtype=np.float32), 0, 255)


def _centred(digit: Pixels) -> Pixels:
    """In the middle of 28x28 by its centre of mass."""
    height, width = digit.shape
    total = digit.sum()
    row = (digit.sum(axis=1) * (np.arange(height) + 0.5)).sum() / total
    column = (digit.sum(axis=0) * (np.arange(width) + 0.5)).sum() / total
    top = int(np.clip(round(SIDE / 2 - row), 0, SIDE - height))
    left = int(np.clip(round(SIDE / 2 - column), 0, SIDE - width))
    canvas = np.zeros((SIDE, SIDE), dtype=np.float32)
    canvas[top : top + height, left : left + width] = digit
    return np.rint(canvas)
