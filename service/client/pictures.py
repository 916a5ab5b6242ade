"""Any picture as the body of a request. NumPy and Pillow are not imported: only who has them brings their values."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from service.client.errors import InvalidImage

__all__ = ["ArrayLike", "ImageLike", "Picture", "bodies", "body"]

SIDE = 28
MOST = 255
MOST_OF_16_BITS = 65_535

CHANNELS = (2, 3, 4)

MODES = {"CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
"""Pillow's modes that PNG does not have, each with the nearest that it has."""


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


Picture = str | PathLike[str] | bytes | ArrayLike | ImageLike | Sequence[Any]
"""A path, the bytes of a file, a Pillow image, a NumPy array, or rows of numbers."""


def body(picture: Picture) -> dict[str, Any]:
    """What httpx takes for a request about one picture.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: it is no picture.
        InvalidImage: it is one without pixels, or one that is closed.
    """
    read = _read(picture)
    if isinstance(read, bytes):
        return {"content": read, "headers": {"Content-Type": "application/octet-stream"}}
    return {"json": {"image": read}}


def bodies(pictures: Iterable[Picture] | ArrayLike) -> dict[str, Any]:
    """The same for many pictures, which may be one array of n pictures. Raises as `body` does."""
    if isinstance(pictures, str | PathLike | bytes | ImageLike) or not isinstance(pictures, ArrayLike | Iterable):
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
            return Path(picture).read_bytes()
        case list() | tuple():
            return list(picture)
        case ImageLike():  # before arrays: a closed picture cannot even be asked whether it is one
            return _png(picture)
        case ArrayLike():
            return _from_array(picture)
    raise TypeError(f"a picture is a path, bytes, a PIL.Image or an array of numbers, not {type(picture).__name__}")


def _from_array(array: ArrayLike) -> bytes | list[Any]:
    shape = tuple(length for length in array.shape if length != 1)
    if shape in {(SIDE, SIDE), (SIDE * SIDE,)}:
        return list(array.reshape(shape).tolist())
    if str(array.__array_interface__["typestr"]) != "|u1":
        raise TypeError(f"an array of shape {array.shape} is read when it is uint8; 28x28 may be of any numbers")
    # The service scales files, not numbers.
    from PIL import Image

    return _png(Image.fromarray(array.reshape(_of_picture(array.shape))))


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
        _writable(image).save(file, format="PNG")
    except ValueError as error:  # Pillow's for a closed one
        raise InvalidImage(f"the picture cannot be read: {error}") from error
    return file.getvalue()


def _writable(image: Any) -> Any:  # noqa: ANN401 - Pillow's, which is not imported here
    """The same picture in a mode that PNG has. Those of larger numbers are read as 0 to 255, or to 1 when no number
    is above it.
    """
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
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
