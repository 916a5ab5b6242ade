"""Any picture as the body of a request."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from service.client import InvalidImage
from service.client.pictures import bodies, body

DIGIT = np.zeros((28, 28), dtype=np.uint8)
DIGIT[4:24, 12:16] = 255
LARGE = np.kron(DIGIT, np.ones((3, 3), dtype=np.uint8))


def image(sent: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(sent["content"]))


@pytest.mark.parametrize(
    "shape", [(28, 28), (784,), (28, 28, 1), (1, 28, 28), (1, 28, 28, 1), (1, 784), (1, 1, 28, 28)]
)
@pytest.mark.parametrize("kind", ["uint8", "float32", "int64"])
def test_784_numbers_are_a_picture_however_they_stand(shape: tuple[int, ...], kind: str) -> None:
    numbers = body(DIGIT.astype(kind).reshape(shape))["json"]["image"]
    assert np.array_equal(np.ravel(numbers), DIGIT.ravel())
    assert np.shape(numbers) in {(28, 28), (784,)}


@pytest.mark.parametrize("shape", [(84, 84), (84, 84, 1), (1, 84, 84), (1, 84, 84, 1)])
def test_uint8_of_another_size_is_a_picture_of_that_size(shape: tuple[int, ...]) -> None:
    assert np.array_equal(np.asarray(image(body(LARGE.reshape(shape)))), LARGE)


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 28, 28, 1), (7,), (), (28, 28, 5)])
def test_an_array_that_is_no_picture_is_a_type_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match="is no picture"):
        body(np.zeros(shape, dtype=np.uint8))
    with pytest.raises(TypeError, match="uint8"):
        body(np.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 784), (3, 28, 28, 1), (3, 1, 28, 28)])
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_an_array_of_several_pictures_is_several(shape: tuple[int, ...], kind: str) -> None:
    images = bodies(np.stack([DIGIT] * 3).astype(kind).reshape(shape))["json"]["images"]
    assert [np.array_equal(np.ravel(one), DIGIT.ravel()) for one in images] == [True] * 3


def test_several_pictures_may_come_from_a_generator_and_be_of_any_size() -> None:
    assert len(bodies(one for one in [DIGIT, LARGE])["json"]["images"]) == 2
    assert len(bodies(np.stack([LARGE, LARGE]))["json"]["images"]) == 2


@pytest.mark.parametrize(
    "one", ["digit.png", b"bytes", Image.fromarray(DIGIT), DIGIT.ravel(), 7, np.uint8(3), io.BytesIO(b"x")]
)
def test_one_picture_is_not_several(one: Any) -> None:
    with pytest.raises(TypeError, match=r"several pictures|n pictures"):
        bodies(one)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_any_kind_are_a_file(kind: Any) -> None:
    assert body(kind(b"file"))["content"] == b"file"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_a_picture_of_any_mode_looks_the_same(mode: str) -> None:
    sent = image(body(Image.fromarray(LARGE).convert("RGB").convert(mode)))
    assert np.abs(np.asarray(sent.convert("L")).astype(int) - LARGE).max() <= 2


@pytest.mark.parametrize("mode", ["LAB", "PA", "RGBX", "RGBa", "La", "I;16", "I", "F"])
def test_a_picture_of_any_mode_is_sent(mode: str) -> None:
    assert image(body(Image.new(mode, (9, 5)))).size == (9, 5)


@pytest.mark.parametrize(("mode", "order"), [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2"), ("I;16N", "=u2")])
def test_16_bits_in_any_order_are_the_same_numbers(mode: str, order: str) -> None:
    numbers = np.arange(45, dtype=np.uint16).reshape(5, 9) * 1000
    sent = image(body(Image.frombytes(mode, (9, 5), numbers.astype(order).tobytes())))
    assert np.array_equal(np.asarray(sent), numbers)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_sent_as_its_exif_data_want_it_seen(orientation: int) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(LARGE[:, :50]).save(file, "JPEG", exif=exif, quality=95)
    opened = Image.open(file)
    sent = image(body(opened))
    seen = ImageOps.exif_transpose(Image.open(file))
    assert np.array_equal(np.asarray(sent), np.asarray(seen))
    assert ExifTags.Base.Orientation not in sent.getexif()
    assert opened.size == (50, 84)  # the picture itself has not changed


def test_exif_data_that_nobody_can_read_turn_nothing() -> None:
    picture = Image.fromarray(LARGE)
    picture.info["exif"] = b"Exif\0\0garbage"
    assert np.array_equal(np.asarray(image(body(picture))), LARGE)


def test_truth_is_ink() -> None:
    for shape in ((28, 28), (784,), (1, 28, 28)):
        numbers = body((DIGIT > 0).reshape(shape))["json"]["image"]
        assert {type(one) for one in np.ravel(np.array(numbers, dtype=object))} == {int}
        assert np.array_equal(np.ravel(numbers), DIGIT.ravel() > 0)
    assert bodies(np.stack([DIGIT > 0] * 2))["json"]["images"] == [(DIGIT // 255).tolist()] * 2
    assert np.array_equal(np.asarray(image(body(LARGE > 0)).convert("L")), LARGE)


def test_larger_numbers_keep_their_meaning() -> None:
    assert np.array_equal(np.asarray(image(body(Image.fromarray(np.float32(LARGE / 255))))), LARGE)
    sixteen = image(body(Image.fromarray(LARGE.astype(np.int32) * 257)))
    assert np.asarray(sixteen).max() == 65_535


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("L", (0, 0)),
        Image.new("L", (0, 9)),
        np.zeros((0, 0), dtype=np.uint8),
        np.zeros((28, 0, 3), dtype=np.uint8),
        Image.fromarray(np.full((9, 9), 300, dtype=np.float32)),
        Image.fromarray(np.full((9, 9), np.nan, dtype=np.float32)),
        Image.fromarray(np.full((9, 9), -1, dtype=np.int32)),
    ],
)
def test_a_picture_without_pixels_or_with_impossible_ones_is_an_invalid_image(picture: Any) -> None:
    with pytest.raises(InvalidImage, match=r"has none|lie between"):
        body(picture)


def test_a_closed_picture_is_an_invalid_image() -> None:
    file = io.BytesIO()
    Image.fromarray(DIGIT).save(file, "PNG")
    closed = Image.open(file)
    closed.close()
    with pytest.raises(InvalidImage, match="cannot be read"):
        body(closed)
