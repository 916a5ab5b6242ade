"""From a picture's bytes to grey pixels, in bounded memory and time, whoever made the bytes."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from service.errors import InvalidImage

try:
    import pyspng
except ImportError:  # there is no wheel for this machine, and Pillow does the same
    pyspng = None

__all__ = ["FORMAT_NAMES", "ORIENTATION", "UPRIGHT", "Grey", "decode", "is_small"]

Grey = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""(height, width) of 0..255; float32 where the file has finer steps than 256."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
SMALL = 28 * 28
"""Most pixels of a picture that takes no time worth a thread."""
LARGE = 4_000_000
"""From so many pixels on, a picture waits for its turn: Pillow takes 4 bytes a pixel."""
MOST_SCANS = 100
"""Scans of a JPEG. Cameras make 1 and encoders 10; each is decoded over the whole picture, and may take 10 bytes."""

GREY_OF_8_BITS = bytes((8, 0, 0, 0, 0))
"""In a PNG's header, from byte 24: bit depth, colour, compression, filter, and not interlaced."""
END = b"\0\0\0\0IEND\xaeB`\x82"
"""A PNG's last chunk."""

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

WRONG = (
    OSError, SyntaxError, ValueError, EOFError, MemoryError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, AssertionError, struct.error, Warning,
)  # fmt: skip
"""What Pillow's readers raise of broken files. Warnings too, for a server that runs with `-W error`."""

# Every picture's size is checked here against the operator's limit. Pillow's own limit is lower than that may be,
# and warns before it raises: no filter of warnings can be set and put back safely from many threads.
Image.MAX_IMAGE_PIXELS = None
# Broken metadata is no matter for the server's log, and whoever sends it chooses how often.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_turn = threading.BoundedSemaphore(2)


def is_small(data: bytes) -> bool:
    """Whether these are a PNG of few pixels by its header: quick to decode. A few bytes can hold 40 million pixels."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return False
    return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big") <= SMALL


def decode(data: bytes, *, max_pixels: int, steps: list[str]) -> Grey:
    """Read the first picture of a PNG, JPEG, WebP, BMP, GIF or TIFF file: grey, upright, alpha flattened.

    Args:
        data: the file.
        max_pixels: the most pixels that it may have. The size is checked before a pixel is decoded, so a
            decompression bomb costs nothing.
        steps: is told what was done.

    Raises:
        InvalidImage: it is none of these, is broken, cut short, or too large.
    """
    if (plain := _plain(data)) is not None:
        return plain
    if not data:
        raise InvalidImage("the picture is empty: 0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InvalidImage(f"the bytes are no {FORMAT_NAMES} picture, whatever their name says") from None
    except WRONG:
        raise InvalidImage("the picture is broken or cut short") from None
    width, height = image.size
    if width < 1 or height < 1:
        raise InvalidImage(f"the picture has no pixels: it is {width}x{height}")
    if width * height > max_pixels:
        raise InvalidImage(
            f"the picture is {width}x{height}; at most {max_pixels:,} pixels are read: send a smaller one"
        )
    if image.format in {"JPEG", "MPO"} and data.count(b"\xff\xda") > MOST_SCANS:
        raise InvalidImage(f"the JPEG has more than {MOST_SCANS} scans: save it again")
    try:
        if width * height < LARGE:
            return _pixels(image, steps)
        with _turn:
            return _pixels(image, steps)
    except WRONG:
        raise InvalidImage("the picture is broken or cut short") from None


def _plain(data: bytes) -> npt.NDArray[np.uint8] | None:
    """The pixels of a small grey PNG of 8 bits that is whole and says nothing else about them: what programs send most.
    Pillow takes seven times as long for it. None for any other file: Pillow says what is wrong with it.
    """
    if pyspng is None or not is_small(data) or data[24:29] != GREY_OF_8_BITS or data[37:41] != b"IDAT":
        return None
    end = 41 + int.from_bytes(data[33:37], "big")
    if data[end + 4 :] != END:
        return None
    for start, stop in ((12, 29), (37, end)):  # libspng does not look at every checksum
        if zlib.crc32(data[start:stop]) != int.from_bytes(data[stop : stop + 4], "big"):
            return None
    try:
        grey: npt.NDArray[np.uint8] = pyspng.load(data)
    except (RuntimeError, ValueError):
        return None
    return grey


def _pixels(image: Image.Image, steps: list[str]) -> Grey:
    if image.format in {"JPEG", "MPO"} and image.width * image.height > 2_000_000:
        image.draft("L", (image.width // 4, image.height // 4))  # JPEG can be decoded at a fraction of its size
    loads_upright = image.format == "TIFF"  # and forgets that it was not
    turn = _turn_of(image) if loads_upright else None
    image.load()
    if not loads_upright:
        turn = _turn_of(image)
    grey = _grey(image, steps)
    if turn is None:
        return grey
    steps.append("turned_upright")
    if loads_upright:
        return grey
    return np.asarray(Image.fromarray(grey).transpose(turn))


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """What makes it upright by its EXIF data; nothing where they cannot be read."""
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except WRONG:
        return None


def _grey(image: Image.Image, steps: list[str]) -> Grey:
    """Luminance (ITU-R 601). Transparent pixels show the white paper behind them, or black where the opaque ones are
    light.
    """
    if image.mode == "L" and not image.has_transparency_data:
        return np.asarray(image)
    if image.mode in {"I;16", "I;16B", "I;16L", "I", "F"}:
        return _eight_bits(np.asarray(image, dtype=np.float32), steps)
    if image.has_transparency_data:
        if image.mode not in {"LA", "RGBA"}:
            image = image.convert("RGBA")
        alpha, light = image.getchannel("A"), image.convert("L")
        if alpha.getextrema() == (255, 255):
            steps.append("made_grey")
            return np.asarray(light)
        opaque = np.asarray(light)[np.asarray(alpha) > 127]
        behind = 0 if opaque.size and opaque.mean() > 128 else 255
        steps += ["made_grey", "alpha_flattened"]
        return np.asarray(Image.composite(light, Image.new("L", light.size, behind), alpha))
    if image.mode != "1":
        steps.append("made_grey")
    return np.asarray(image.getchannel(0) if image.mode == "LAB" else image.convert("L"))


def _eight_bits(wide: npt.NDArray[np.float32], steps: list[str]) -> npt.NDArray[np.float32]:
    """0..255 from 16 bits, 12 bits in 16, or any other numbers, each as the highest of them tells."""
    low, high = float(wide.min()), float(wide.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidImage("the picture has pixels that are no finite numbers")
    whole = bool((wide[:: max(1, len(wide) // 64)] % 1 == 0).all())
    if low >= 0 and whole and 1 < high <= 255:
        return wide
    steps.append("scaled_to_8_bits")
    for top in (1, 4095, 65535):
        if low >= 0 and high <= top and (whole or top == 1):
            return np.asarray(wide * np.float32(255 / top), dtype=np.float32)
    span = max(high - low, 1e-30)
    return np.asarray((wide - np.float32(low)) * np.float32(255 / span), dtype=np.float32)
