"""Pictures and numbers of every accepted kind become 28x28 as MNIST is; everything else is refused by name."""

import base64
import contextlib
import io
import random
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from service import datasets
from service.errors import InvalidImage
from service.serving import images
from service.serving.decoding import ORIENTATION, UPRIGHT
from service.serving.images import Pixels

MAX_PIXELS = 40_000_000
Grey = npt.NDArray[np.uint8]


def read(data: bytes) -> Pixels:
    return images.from_bytes(data, max_pixels=MAX_PIXELS)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    return encoded(Image.fromarray(pixels), **options)


def png_header(width: int, height: int) -> bytes:
    """A PNG of this size, with one byte of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def noise(side: int) -> Grey:
    return np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)


def seven() -> Grey:
    """A digit that fills a box 20 high, as MNIST's do."""
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[4:8, 9:19] = 255
    digit[8:24, 15:19] = 200
    return digit


@pytest.fixture(scope="module")
def digits(mnist: datasets.Arrays) -> Grey:
    return mnist.x_test[:50]


def test_a_28x28_picture_with_a_dark_background_is_bit_equal_to_mnist(digits: Grey) -> None:
    for digit in digits:
        np.testing.assert_array_equal(read(png(digit)).reshape(28, 28), digit)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_colour_mode_of_png_reads_the_same(mode: str) -> None:
    digit = np.where(seven() > 0, 255, 0).astype(np.uint8)
    wide = Image.fromarray(digit.astype(np.uint16) * 257)
    picture = wide if mode == "I;16" else Image.fromarray(digit).convert(mode)
    np.testing.assert_array_equal(read(encoded(picture)).reshape(28, 28), digit)


def test_16_bits_are_scaled_to_8() -> None:
    grey = np.linspace(0, 65535, 784).astype(np.uint16).reshape(28, 28)
    grey[0] = grey[-1] = grey[:, 0] = grey[:, -1] = 0
    np.testing.assert_allclose(read(png(grey)).reshape(28, 28), grey / 257, atol=0.01)


def test_a_light_background_is_inverted(digits: Grey) -> None:
    for digit in digits:
        dark, light = read(png(np.pad(digit, 10))), read(png(255 - np.pad(digit, 10)))
        np.testing.assert_array_equal(dark, light)


@pytest.mark.parametrize("offset", [(0, 0), (150, 30), (71, 130)])
@pytest.mark.parametrize("zoom", [1, 3])
def test_where_and_how_large_a_digit_is_drawn_does_not_matter(offset: tuple[int, int], zoom: int) -> None:
    drawn = seven().repeat(zoom, axis=0).repeat(zoom, axis=1)
    canvas = np.zeros((300, 300), dtype=np.uint8)
    canvas[offset[0] : offset[0] + len(drawn), offset[1] : offset[1] + len(drawn)] = drawn
    found = read(png(canvas)).reshape(28, 28)
    assert np.abs(found - read(png(np.pad(seven(), 5))).reshape(28, 28)).mean() < 5
    rows, columns = np.nonzero(found > 25)
    assert max(np.ptp(rows), np.ptp(columns)) == 19
    total = found.sum()
    assert abs((found.sum(axis=1) * np.arange(0.5, 28)).sum() / total - 14.5) <= 0.51  # as all of MNIST's are
    assert abs((found.sum(axis=0) * np.arange(0.5, 28)).sum() / total - 14.5) <= 0.51


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_read_nearly_the_same(kind: str) -> None:
    large = Image.fromarray(seven().repeat(8, axis=0).repeat(8, axis=1)).convert("RGB")
    assert np.abs(read(encoded(large, kind, quality=95)) - read(encoded(large))).mean() < 2


@pytest.mark.parametrize("kind", ["png", "rgba", "palette"])
def test_black_ink_on_transparency_is_ink_on_paper(kind: str) -> None:
    ink = np.pad(seven(), 6)
    black = Image.fromarray(np.zeros_like(ink))
    picture = Image.merge("LA", (black, Image.fromarray(ink)))
    if kind == "palette":
        indexed = Image.fromarray((ink // 100).astype(np.uint8)).convert("P")
        indexed.putpalette([0, 0, 0] * 3)
        data = encoded(indexed, transparency=bytes([0, 255, 255]))
        ink = np.where(ink > 0, 255, 0).astype(np.uint8)
    else:
        data = encoded(picture if kind == "png" else picture.convert("RGBA"))
    np.testing.assert_array_equal(read(data), read(png(ink)))


def test_dark_ink_on_dim_paper_is_turned_also_at_28x28() -> None:
    dim = np.where(seven() > 0, 10, 120).astype(np.uint8)
    dim = np.pad(dim, (28 - len(dim)) // 2, constant_values=120) if len(dim) < 28 else dim
    done: images.Steps = []
    found = images.from_bytes(png(dim), max_pixels=MAX_PIXELS, steps=done).reshape(28, 28)
    assert "inverted" in done[0]
    assert found[0].max() == 0


@pytest.mark.parametrize("side", [6, 8, 12])
def test_a_tiny_digit_is_no_noise(side: int, mnist: datasets.Arrays) -> None:
    for digit in mnist.x_test[:50]:
        small = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BOX))
        assert read(png(small)).max() > 0


def test_white_ink_on_transparency_is_taken_as_it_is() -> None:
    white = Image.fromarray(np.full((28, 28), 255, dtype=np.uint8))
    picture = Image.merge("LA", (white, Image.fromarray(seven())))
    np.testing.assert_array_equal(read(encoded(picture)).reshape(28, 28), seven())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_photo_is_turned_as_its_exif_says(kind: str, orientation: int) -> None:
    upright = Image.fromarray(seven().repeat(4, axis=0).repeat(4, axis=1)).convert("RGB")
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    turned = upright.transpose(UPRIGHT[back]) if back > 1 else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert np.abs(read(encoded(turned, kind, exif=exif)) - read(encoded(upright, kind))).mean() < 3


def test_a_photo_with_broken_exif_is_read_as_it_lies() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(Image.fromarray(seven()), exif=exif)
    header = data.index(b"MM\0*")
    broken = data[:header] + b"XX" + data[header + 2 :]
    name = broken.index(b"eXIf")
    end = name + 4 + struct.unpack(">I", broken[name - 4 : name])[0]
    broken = broken[:end] + struct.pack(">I", zlib.crc32(broken[name:end])) + broken[end + 4 :]
    np.testing.assert_array_equal(read(broken).reshape(28, 28), seven())


REFUSED = {
    "nothing": (b"", "empty"),
    "text": (b"I am a.png", "no PNG, JPEG, WebP, BMP, GIF or TIFF"),
    "another kind": (encoded(Image.fromarray(seven()), "PPM"), "no PNG, JPEG, WebP, BMP, GIF or TIFF"),
    "half a TIFF": (encoded(Image.fromarray(seven()), "TIFF")[:-300], "cut short|no PNG"),
    "half a BMP": (encoded(Image.fromarray(seven()), "BMP")[:-300], "cut short"),
    "half a GIF": (encoded(Image.fromarray(noise(60)), "GIF")[:1500], "cut short"),
    "JPEG of many scans": (encoded(Image.fromarray(seven()), "JPEG") + b"\xff\xda" * 101, "more than 100 scans"),
    "no numbers": (encoded(Image.fromarray(np.full((30, 30), np.nan, np.float32)), "TIFF"), "no finite numbers"),
    "half a PNG": (png(noise(60))[:2000], "cut short"),
    "half a JPEG": (encoded(Image.fromarray(seven()), "JPEG")[:-50], "cut short"),
    "no width": (png_header(0, 5), "no pixels|broken|no PNG"),
    "no size": (png_header(0, 0), "no pixels|broken|no PNG"),
    "white": (png(np.full((28, 28), 255, np.uint8)), "no ink"),
    "grey": (png(np.full((90, 50), 90, np.uint8)), "no ink"),
    "black": (png(np.zeros((28, 28), np.uint8)), "no ink"),
    "nothing but noise": (png((128 + noise(90) / 8).astype(np.uint8)), "no ink"),
    "one pixel": (png(np.zeros((1, 1), np.uint8)), "no ink"),
    "large and black": (png(np.zeros((90, 50), np.uint8)), "no ink"),
    "transparent": (encoded(Image.new("RGBA", (64, 64))), "no ink"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_picture_of_a_digit_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        read(data)


@pytest.mark.parametrize("side", [6325, 13_000, 100_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_a_pixel_is_decoded(side: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidImage, match=f"{side}x{side}; at most 40,000,000"):
            read(png_header(side, side))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_the_operators_limit_is_the_only_one() -> None:
    with pytest.raises(InvalidImage, match="cut short"):
        images.from_bytes(png_header(20_000, 1), max_pixels=20_000)
    with pytest.raises(InvalidImage, match="at most 19,999 pixels"):
        images.from_bytes(png_header(20_000, 1), max_pixels=19_999)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what Pillow says of broken files, on its way to read them
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_any_bytes_give_a_digit_or_a_refusal_and_nothing_else(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = encoded(Image.fromarray(np.pad(seven(), 4)).convert("P" if kind == "GIF" else "RGB"), kind, exif=exif)
    chance = random.Random(kind)  # the same on every run
    for _ in range(1500):
        data = bytearray(whole[: chance.choice([len(whole), len(whole), chance.randrange(len(whole))])])
        for _ in range(chance.randrange(5) if data else 0):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(InvalidImage):
            assert read(bytes(data)).shape == (1, 784)


def test_reading_in_many_threads_leaves_the_warning_filters_alone() -> None:
    before = list(warnings.filters)
    data, numbers = png(seven()), seven().tolist()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: read(data) if n % 2 else images.from_numbers(numbers), range(2000)))
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(png(seven())).decode(),
        "data:image/png;base64," + base64.b64encode(png(seven())).decode(),
        "data:image/png;charset=x;base64," + base64.b64encode(png(seven())).decode(),
        base64.encodebytes(png(seven())).decode(),
    ],
    ids=["plain", "data URL", "data URL with a parameter", "broken lines"],
)
def test_base64_is_read(text: str) -> None:
    np.testing.assert_array_equal(images.from_base64(text, max_pixels=MAX_PIXELS).reshape(28, 28), seven())


@pytest.mark.parametrize("text", ["", "!", "é", "abc", "data:,x", "data:image/png;base64,", "aGVsbG8=", "\0"])
def test_text_that_is_no_base64_picture_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(InvalidImage) as refusal:
        images.from_base64(text, max_pixels=MAX_PIXELS, pointer="/images/3")
    assert refusal.value.pointer == "/images/3"
