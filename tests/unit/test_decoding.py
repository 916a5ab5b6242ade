"""Every kind of file becomes grey pixels, in bounded memory and time."""

import io
import time
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from service.errors import InvalidImage
from service.serving import decoding
from service.serving.decoding import UPRIGHT, decode, is_small
from tests.unit.test_images import encoded, png, png_header, seven

MAX_PIXELS = 40_000_000


def read(data: bytes) -> tuple[npt.NDArray[Any], list[str]]:
    steps: list[str] = []
    return decode(data, max_pixels=MAX_PIXELS, steps=steps), steps


LOSSLESS = [
    ("BMP", ["1", "L", "P", "RGB", "RGBA"]),
    ("GIF", ["1", "L", "P", "RGB"]),
    ("TIFF", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "LAB", "YCbCr"]),
    ("PNG", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
]


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in LOSSLESS for mode in modes])
def test_every_colour_mode_of_every_format_reads_the_same(kind: str, mode: str) -> None:
    digit = np.where(seven() > 0, 255, 0).astype(np.uint8)
    picture = Image.fromarray(digit)
    if mode == "I;16":
        picture = Image.fromarray(digit.astype(np.uint16) * 257)
    elif mode == "LAB":
        picture = Image.merge("LAB", (picture, Image.new("L", picture.size, 0), Image.new("L", picture.size, 0)))
    else:
        picture = picture.convert("RGB").convert(mode)
    np.testing.assert_array_equal(read(encoded(picture, kind))[0], digit)


def test_a_cmyk_jpeg_is_read() -> None:
    digit = np.where(seven().repeat(4, axis=0).repeat(4, axis=1) > 0, 255, 0).astype(np.uint8)
    found, steps = read(encoded(Image.fromarray(digit).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - digit).mean() < 3
    assert steps == ["made_grey"]


@pytest.mark.parametrize(
    ("numbers", "steps"),
    [
        (np.float32(seven()), []),
        (np.float32(seven() / 255), ["scaled_to_8_bits"]),
        (np.float32(seven() * 1e6 - 3e7), ["scaled_to_8_bits"]),
        (np.int32(seven()) * 257, ["scaled_to_8_bits"]),
        (np.uint16(seven() * (4095 / 255)), ["scaled_to_8_bits"]),
    ],
    ids=["0-255", "0-1", "any", "32 bits", "12 bits in 16"],
)
def test_numbers_of_many_bits_are_scaled_to_8(numbers: npt.NDArray[Any], steps: list[str]) -> None:
    found, done = read(encoded(Image.fromarray(numbers), "TIFF"))
    np.testing.assert_allclose(found, seven(), atol=1)
    assert done == steps


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_only_the_first_of_many_pictures_is_decoded(kind: str) -> None:
    first = Image.fromarray(seven().repeat(20, axis=0).repeat(20, axis=1))
    others = [Image.fromarray(np.full((560, 560), n, np.uint8)) for n in range(100)]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    first.save(buffer, kind, save_all=True, append_images=others, **options)
    started = time.process_time()
    found = read(buffer.getvalue())[0]
    assert time.process_time() - started < 0.5
    np.testing.assert_array_equal(found, np.asarray(first))


def test_ink_on_transparency_is_flattened_and_said() -> None:
    black = Image.fromarray(np.zeros_like(seven()))
    found, steps = read(encoded(Image.merge("LA", (black, Image.fromarray(seven())))))
    np.testing.assert_array_equal(found, 255 - seven())
    assert steps == ["made_grey", "alpha_flattened"]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_a_picture_is_turned_upright(kind: str, orientation: int) -> None:
    digit = Image.fromarray(seven().repeat(4, axis=0).repeat(6, axis=1))
    turned = digit.transpose(UPRIGHT[{6: 8, 8: 6}.get(orientation, orientation)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    found, steps = read(encoded(turned, kind, exif=exif))
    assert found.shape == (112, 168)
    assert np.abs(found.astype(int) - np.asarray(digit)).mean() < 3
    assert steps == ["turned_upright"]


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    large = Image.fromarray(np.kron(seven(), np.ones((100, 100), np.uint8))).convert("RGB")
    assert read(encoded(large, "JPEG"))[0].shape == (700, 700)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF"])
def test_a_file_that_says_it_is_huge_costs_nothing(kind: str) -> None:
    data = encoded(Image.fromarray(seven()), kind)
    if kind == "BMP":
        data = data[:18] + (30_000).to_bytes(4, "little") * 2 + data[26:]
    elif kind == "GIF":
        data = data[:6] + b"\xff\xff\xff\xff" + data[10:]
    else:
        size = (28).to_bytes(4, "little")
        for tag in (256, 257):
            at = data.index(tag.to_bytes(2, "little"), 8)
            data = (
                data[: at + 8] + data[at + 8 : at + 12].replace(size, (30_000).to_bytes(4, "little")) + data[at + 12 :]
            )
            if data[at + 2] == 3:  # the tag is of 16 bits
                data = data[: at + 8] + (30_000).to_bytes(4, "little") + data[at + 12 :]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidImage, match="at most 40,000,000"):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_what_is_small_is_known_from_a_png_header() -> None:
    assert is_small(png(seven()))
    assert not is_small(png_header(6000, 6000))
    assert not is_small(encoded(Image.fromarray(seven()), "BMP"))
    assert not is_small(b"\x89PNG\r\n\x1a\n")


def answer(data: bytes) -> bytes | str:
    """The pixels, or what is said of a broken file."""
    try:
        return read(data)[0].tobytes()
    except InvalidImage as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_the_fast_way_for_plain_pngs_answers_as_pillow_does(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    files = [png(chance.integers(0, 256, shape, np.uint8)) for shape in ((28, 28), (1, 1), (9, 30), (28, 27))]
    files += [png(seven()), encoded(Image.fromarray(seven()), "PNG", compress_level=0)]
    for whole in files[:2] + files[4:]:
        for _ in range(300):
            data = bytearray(whole[: len(whole) if chance.random() < 0.5 else chance.integers(len(whole))])
            for place in chance.integers(0, max(1, len(data)), chance.integers(0, 3)):
                data[place : place + 1] = chance.bytes(1)
            files.append(bytes(data))
    fast = [answer(data) for data in files]
    monkeypatch.setattr(decoding, "pyspng", None)
    slow = [answer(data) for data in files]
    differ = [(data, a, b) for data, a, b in zip(files, fast, slow, strict=True) if a != b]
    assert not differ, (len(differ), len(files), differ[:2])
    assert {type(one) for one in slow} == {bytes, str}
    assert sum(isinstance(one, bytes) for one in fast) > 10
