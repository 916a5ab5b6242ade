"""From what people send to what the network was trained on: 28x28 grey pixels, white ink on black.

A 28x28 picture with a dark background is taken as it is. Any other is treated as MNIST's authors did
(http://yann.lecun.com/exdb/mnist): fitted into 20x20 with its aspect kept, and centred by its centre of mass.
"""

import base64
import binascii
import io
import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from service.domain.experiment import PIXELS
from service.errors import InvalidImage

__all__ = ["Pixels", "Range", "from_base64", "from_bytes", "from_numbers"]

Pixels = npt.NDArray[np.float32]
"""float32 (n, 784), each 0..255."""
Range = Literal["0-255", "0-1"]

SIDE = 28
BOX = 20
FORMATS = ("PNG", "JPEG", "WEBP")
INK = 0.1
"""Share of the brightest pixel from which a pixel counts as ink."""


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
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidImage("the text is no base64 of a PNG, JPEG or WebP file", pointer) from None
    try:
        return from_bytes(data, max_pixels=max_pixels)
    except InvalidImage as error:
        raise InvalidImage(str(error), pointer) from None


def from_numbers(values: object, *, many: bool, wanted: Range | None = None, pointer: str = "") -> tuple[Pixels, Range]:
    """Read images given as numbers.

    Args:
        values: nested lists of numbers: 28x28 or 784 of them, or n times that when `many`.
        many: whether it is a list of images.
        wanted: what the numbers mean; None takes numbers that never exceed 1 as 0..1.
        pointer: where in the body they stand, for the error.

    Returns:
        float32 (n, 784) of 0..255, and the range that was read.

    Raises:
        InvalidImage: another shape, something else than numbers, or numbers out of range.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            array = np.asarray(values)
    except (ValueError, Warning, OverflowError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf":
        raise InvalidImage("an image is 28 rows of 28 numbers, or 784 numbers, each 0 to 255", pointer)
    shape = array.shape[1:] if many else array.shape
    if shape not in {(SIDE, SIDE), (PIXELS,)}:
        found_shape = "x".join(map(str, shape)) or "a single number"
        raise InvalidImage(f"an image is 28x28 or 784 numbers; this one is {found_shape}", pointer)
    array = array.reshape(-1, PIXELS)
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    found: Range = wanted or ("0-1" if high <= 1 else "0-255")
    limit = 1 if found == "0-1" else 255
    if not (low >= 0 and high <= limit):
        raise InvalidImage(f"the numbers must lie between 0 and {limit}; these go from {low:g} to {high:g}", pointer)
    scaled = array.astype(np.float32)
    return (scaled * np.float32(255) if found == "0-1" else scaled), found


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    """Open a picture. Its size is checked before a pixel is decoded, so a decompression bomb costs nothing."""
    if not data:
        raise InvalidImage("the picture is empty: 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width < 1 or height < 1:
                raise InvalidImage(f"the picture has no pixels: it is {width}x{height}")
            if width * height > max_pixels:
                raise InvalidImage(
                    f"the picture is {width}x{height}; at most {max_pixels:,} pixels are read: send a smaller one"
                )
            image.load()
    except Image.DecompressionBombError:
        raise InvalidImage(f"the picture is far too large; at most {max_pixels:,} pixels are read") from None
    except UnidentifiedImageError:
        raise InvalidImage("the bytes are no PNG, JPEG or WebP picture, whatever their name says") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, InvalidImage):
            raise
        raise InvalidImage("the picture is broken or cut short") from None
    return ImageOps.exif_transpose(image)


def _grey(image: Image.Image) -> Pixels:
    """Luminance: float32 (height, width) of 0..255. Transparent pixels show the white paper behind them, or black
    where the opaque ones are light.
    """
    if image.mode in {"I;16", "I;16B", "I;16L", "I", "F"}:
        wide: Pixels = np.asarray(image, dtype=np.float32)
        return np.asarray(wide / 257, dtype=np.float32) if wide.max(initial=0) > 255 else wide
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"), dtype=np.float32)
        alpha = rgba[..., 3] / 255
        light = np.asarray(image.convert("RGB").convert("L"), dtype=np.float32)
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
