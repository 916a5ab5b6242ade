"""Any picture as the body of a request. NumPy and Pillow are not imported: only who has them brings their values."""

import base64
import io
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from service.client.errors import InvalidImage, TooLarge

__all__ = ["MOST_BYTES", "ArrayLike", "ImageLike", "Picture", "Readable", "bodies", "body", "read_file"]

MOST_BYTES = 64 * 2**20
"""Most bytes of a picture's file that are read. A service takes 10 MiB, or what its operator says, and tells nobody
beforehand: so this is well above it, and refuses only what is no picture.
"""

SIDE = 28
PART = 2**20
"""Bytes that are read at once."""
BOOLEAN = "|b1"
"""NumPy's name for truth."""
MOST = 255
MOST_OF_16_BITS = 65_535

CHANNELS = (2, 3, 4)

MODES = {"CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
"""Pillow's modes that PNG does not have, each with the nearest that it has."""
OF_16_BITS = {"I;16L", "I;16B", "I;16N"}
"""Pillow's modes of 16 bits in other orders than PNG's."""

BROKEN_EXIF = (SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, OSError, struct.error)
"""What Pillow raises of EXIF data that nobody can read."""


@runtime_checkable
class ArrayLike(Protocol):
    """A NumPy array, or what behaves as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102 - NumPy's

    @property
    def __array_interface__(self) -> dict[str, Any]: ...

    def reshape(self, shape: tuple[int, ...]) -> "ArrayLike": ...  # noqa: D102 - NumPy's

    def tolist(self) -> Any: ...  # noqa: ANN401, D102 - NumPy's

    def __iter__(self) -> Iterator[Any]: ...


@runtime_checkable
class ImageLike(Protocol):
    """A `PIL.Image.Image`."""

    @property
    def mode(self) -> str: ...  # noqa: D102 - Pillow's

    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102 - Pillow's

    def convert(self, mode: str) -> "ImageLike": ...  # noqa: D102 - Pillow's

    def save(self, fp: Any, format: str | None = None) -> None: ...  # noqa: A002, ANN401, D102 - Pillow's


@runtime_checkable
class Readable(Protocol):
    """A file that is open for reading bytes, or what behaves as one."""

    def read(self, size: int, /) -> bytes | None: ...  # noqa: D102 - Python's


Picture = str | PathLike[str] | bytes | Readable | ArrayLike | ImageLike | Sequence[Any]
"""A path, the bytes of a file, an open file, a Pillow image, a NumPy array, or rows of numbers."""


def body(picture: Picture) -> dict[str, Any]:
    """What httpx takes for a request about one picture.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: it is no picture.
        TooLarge: its file has more than `MOST_BYTES`.
        InvalidImage: it is one without pixels, or one that is closed.
    """
    read = _read(picture)
    if isinstance(read, bytes):
        return {"content": read, "headers": {"Content-Type": "application/octet-stream"}}
    return {"json": {"image": read}}


def bodies(pictures: Iterable[Picture] | ArrayLike) -> dict[str, Any]:
    """The same for many pictures, which may be one array of n pictures. Raises as `body` does."""
    one = isinstance(pictures, str | PathLike | bytes | ImageLike | Readable)
    if one or not isinstance(pictures, ArrayLike | Iterable):
        raise TypeError(f"this takes several pictures, not one {type(pictures).__name__}: predict takes one")
    if isinstance(pictures, ArrayLike) and len(pictures.shape) < len(("n", SIDE * SIDE)):
        raise TypeError(f"an array of shape {pictures.shape} is not n pictures: (n, 28, 28) is")
    many = [_read(picture) for picture in pictures]
    return {"json": {"images": [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in many]}}


def _read(picture: Picture) -> bytes | list[Any]:
    """The bytes of a picture file, or its numbers."""
    match picture:
        case bytes() | bytearray() | memoryview():
            return bytes(picture)
        case str() | PathLike():
            return read_file(picture)
        case list() | tuple():
            return list(picture)
        case ImageLike():  # before arrays: a closed picture cannot even be asked whether it is one
            return _png(picture)
        case ArrayLike():
            return _from_array(picture)
        case Readable():
            return read_file(picture)
    raise TypeError(
        f"a picture is a path, bytes, an open file, a PIL.Image or an array of numbers, not {type(picture).__name__}"
    )


def read_file(source: str | PathLike[str] | Readable) -> bytes:
    """The bytes of a picture's file: all that is there, from where an open one stands. Devices and pipes, too.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: it is open for reading text.
        TooLarge: it has more than `MOST_BYTES`; no more of it are read.
    """
    if isinstance(source, str | PathLike):
        with Path(source).open("rb") as file:
            told = os.fstat(file.fileno())
            if stat.S_ISREG(told.st_mode) and told.st_size > MOST_BYTES:
                raise _too_large(os.fspath(source))
            return _all_of(file, os.fspath(source))
    name = getattr(source, "name", None)  # of some it is a number
    return _all_of(source, name if isinstance(name, str) else "what is read")


def _all_of(file: Readable, name: str) -> bytes:
    read = bytearray()
    while part := file.read(min(PART, MOST_BYTES + 1 - len(read))):
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError(f"{name} gives {type(part).__name__}, not bytes: open it in mode 'rb'")
        read += part
        if len(read) > MOST_BYTES:
            raise _too_large(name)
    return bytes(read)


def _too_large(name: str) -> TooLarge:
    return TooLarge(f"{name} is no picture to send: it has more than {MOST_BYTES:,} bytes")


def _from_array(array: ArrayLike) -> bytes | list[Any]:
    shape = tuple(length for length in array.shape if length != 1)
    kind = str(array.__array_interface__["typestr"])
    if shape in {(SIDE, SIDE), (SIDE * SIDE,)}:
        numbers = list(array.reshape(shape).tolist())
        return _as_numbers(numbers) if kind == BOOLEAN else numbers
    if kind not in {"|u1", BOOLEAN}:
        raise TypeError(f"an array of shape {array.shape} is read when it is uint8; 28x28 may be of any numbers")
    # The service scales files, not numbers.
    from PIL import Image

    return _png(Image.fromarray(array.reshape(_of_picture(array.shape))))


def _as_numbers(values: list[Any]) -> list[Any]:
    """Truth as 0 and 1, also in rows: the service takes numbers only."""
    return [_as_numbers(value) if isinstance(value, list) else int(value) for value in values]


def _of_picture(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as Pillow takes it: rows and columns, and channels if there are several."""
    left = shape
    while len(left) > len(("rows", "columns", "channels")) and left[0] == 1:
        left = left[1:]
    match left:
        case (rows, columns, 1) | (1, rows, columns) if columns not in CHANNELS or left[-1] == 1:
            left = rows, columns
    match left:
        case (rows, columns) | (rows, columns, 2 | 3 | 4):
            if rows * columns == 0:
                raise InvalidImage(f"a picture of {rows}x{columns} pixels has none")
            return left
    raise TypeError(
        f"an array of shape {shape} is no picture: it has rows and columns, and may have 1 to 4 channels; "
        "several pictures go to predict_many"
    )


def _png(image: ImageLike) -> bytes:
    if 0 in image.size:
        raise InvalidImage(f"a picture of {image.size[0]}x{image.size[1]} pixels has none")
    file = io.BytesIO()
    try:
        _writable(_upright(image)).save(file, format="PNG")
    except ValueError as error:  # Pillow's for a closed one
        raise InvalidImage(f"the picture cannot be read: {error}") from error
    return file.getvalue()


def _upright(image: Any) -> Any:  # noqa: ANN401 - see below
    """The same picture as its EXIF data want it to be seen: PNG is sent without them."""
    from PIL import ImageOps

    image.load()  # what cannot be read is told as that, and not as broken EXIF data
    try:
        return ImageOps.exif_transpose(image)
    except BROKEN_EXIF:
        return image


def _writable(image: Any) -> Any:  # noqa: ANN401 - Pillow's, which is not imported here
    """The same picture in a mode that PNG has. Those of larger numbers are read as 0 to 255, or to 1 when no number
    is above it.
    """
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    if image.mode in OF_16_BITS:
        return image.convert("I").convert("I;16")
    if image.mode not in {"I", "F"}:
        return image if image.mode not in MODES else image.convert(MODES[image.mode])
    least, most = image.getextrema()
    if not 0 <= least <= most <= (MOST if image.mode == "F" else MOST_OF_16_BITS):
        raise InvalidImage(
            f"the numbers of a picture of mode {image.mode} lie between 0 and 255, not {least} to {most}"
        )
    if image.mode == "F":
        scaled = image.point(lambda number: number * MOST) if most <= 1 else image
        return scaled.convert("L")
    return image.convert("L" if most <= MOST else "I;16")
