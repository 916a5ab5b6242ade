"""Any picture as the body of a request. NumPy and Pillow are not imported: only who has them brings their values."""

import base64
import io
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

__all__ = ["ArrayLike", "ImageLike", "Picture", "bodies", "body"]

SIDE = 28


@runtime_checkable
class ArrayLike(Protocol):
    """A NumPy array, or what behaves as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102 - NumPy's

    @property
    def __array_interface__(self) -> dict[str, Any]: ...

    def tolist(self) -> Any: ...  # noqa: ANN401, D102 - NumPy's


@runtime_checkable
class ImageLike(Protocol):
    """A `PIL.Image.Image`."""

    def save(self, fp: Any, format: str | None = None) -> None: ...  # noqa: A002, ANN401, D102 - Pillow's


Picture = str | PathLike[str] | bytes | ArrayLike | ImageLike | Sequence[Any]
"""A path, the bytes of a file, a Pillow image, a NumPy array, or rows of numbers."""


def body(picture: Picture) -> dict[str, Any]:
    """What httpx takes for a request about one picture.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: it is no picture.
    """
    read = _read(picture)
    if isinstance(read, bytes):
        return {"content": read, "headers": {"Content-Type": "application/octet-stream"}}
    return {"json": {"image": read}}


def bodies(pictures: Sequence[Picture] | ArrayLike) -> dict[str, Any]:
    """The same for many pictures, which may be one array of three dimensions. Raises as `body` does."""
    many = pictures.tolist() if isinstance(pictures, ArrayLike) else [_read(picture) for picture in pictures]
    return {"json": {"images": [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in many]}}


def _read(picture: Picture) -> bytes | list[Any]:
    """The bytes of a picture file, or its numbers."""
    match picture:
        case bytes():
            return picture
        case str() | PathLike():
            return Path(picture).read_bytes()
        case list() | tuple():
            return list(picture)
        case ArrayLike():
            return _from_array(picture)
        case ImageLike():
            return _png(picture)
    raise TypeError(f"a picture is a path, bytes, a PIL.Image or an array of numbers, not {type(picture).__name__}")


def _from_array(array: ArrayLike) -> bytes | list[Any]:
    if array.shape in {(SIDE, SIDE), (SIDE * SIDE,), (1, SIDE, SIDE)}:
        numbers = array.tolist()
        return list(numbers[0] if len(array.shape) == len((1, SIDE, SIDE)) else numbers)
    if str(array.__array_interface__["typestr"]) != "|u1":
        raise TypeError(f"an array of shape {array.shape} is read when it is uint8; 28x28 may be of any numbers")
    # The service scales files, not numbers.
    from PIL import Image

    return _png(Image.fromarray(array))


def _png(image: ImageLike) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
