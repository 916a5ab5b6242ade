"""Images given as numbers: every accepted shape and range, and what is refused, each where it stands."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidImage
from service.serving import images
from service.serving.images import Pixels, Range

MAX_PIXELS = 40_000_000

WHOLE = np.random.default_rng(1).integers(0, 256, (28, 28))
FRACTIONS = WHOLE / 255
ROWS, FLAT = WHOLE.tolist(), WHOLE.ravel().tolist()


def many(values: list[object], wanted: Range | None = None) -> tuple[Pixels, Range]:
    return images.from_many(values, max_pixels=MAX_PIXELS, wanted=wanted, pointer="/images")


@pytest.mark.parametrize("values", [ROWS, FLAT, WHOLE.astype(float).tolist()], ids=["28x28", "784", "floats"])
def test_whole_numbers_are_pixels_as_they_are(values: list[object]) -> None:
    pixels, found = images.from_numbers(values)
    assert found == "0-255"
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels.reshape(28, 28), WHOLE)


@pytest.mark.parametrize("values", [FRACTIONS.tolist(), FRACTIONS.ravel().tolist()], ids=["28x28", "784"])
def test_numbers_that_never_exceed_1_are_shares_of_255(values: list[object]) -> None:
    pixels, found = images.from_numbers(values)
    assert found == "0-1"
    np.testing.assert_allclose(pixels.reshape(28, 28), WHOLE, atol=1e-4)


@pytest.mark.parametrize(
    ("highest", "wanted", "found", "read"),
    [
        (1, None, "0-1", 255),
        (1.0, None, "0-1", 255),
        (0, None, "0-1", 0),
        (1.5, None, "0-255", 1.5),
        (2, None, "0-255", 2),
        (255, None, "0-255", 255),
        (1, "0-255", "0-255", 1),
        (0.5, "0-255", "0-255", 0.5),
        (1, "0-1", "0-1", 255),
        (-0.0, None, "0-1", 0),
    ],
)
def test_the_range_is_the_one_asked_for_or_else_seen(
    highest: float, wanted: Range | None, found: Range, read: float
) -> None:
    pixels, seen = images.from_numbers([highest] + [0] * 783, wanted=wanted)
    assert (seen, pixels.max()) == (found, read)


@pytest.mark.parametrize(
    "number",
    [-1, -1e-9, 256, 300, 255.001, 2**64, 10**400, -(10**400), 1e308, float("nan"), float("inf")],
    ids=lambda number: f"{number:g}" if not isinstance(number, int) else str(number)[:9],
)
@pytest.mark.parametrize("beside", [0, 0.5])
def test_numbers_out_of_range_are_refused(number: float, beside: float) -> None:
    with pytest.raises(InvalidImage, match=r"between 0 and|each 0 to 255") as refusal:
        images.from_numbers([beside] * 783 + [number], pointer="/image")
    assert refusal.value.pointer == "/image"


def test_a_range_that_was_asked_for_is_kept_to() -> None:
    with pytest.raises(InvalidImage, match=r"between 0 and 1; these go from 0 to 2"):
        images.from_numbers([0, 2] * 392, wanted="0-1")


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([[0] * 28] * 27, "27x28"),
        ([[0] * 27] * 28, "28x27"),
        ([0] * 783, "783"),
        ([], "0"),
        ([[]], "1x0"),
        ([[0] * 28] * 27 + [[0] * 27], "28 rows of different lengths"),
        ([[0] * 28] * 27 + [0], "28 rows of different lengths"),
        ([[0] * 28] * 784, "number"),
        ([[[0]] * 28] * 28, "number"),
        (7, "a single value"),
        (None, "a single value"),
        ({"0": 1}, "a single value"),
        ([None] * 784, "number"),
        ([[None] * 28] * 28, "number"),
        (["0"] * 784, "number"),
        ([0.5] * 783 + ["0"], "number"),
        ([{}] * 784, "number"),
    ],
)
def test_other_shapes_and_things_are_refused(values: object, shape: str) -> None:
    with pytest.raises(InvalidImage, match=shape):
        images.from_numbers(values)


def test_a_long_text_among_the_numbers_does_not_make_each_as_long() -> None:
    values: list[Any] = ["x" * 2**20] + ["y"] * 783
    tracemalloc.start()
    try:
        with pytest.raises(InvalidImage, match="number"):
            images.from_numbers(values)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_many_images_may_be_of_different_shapes() -> None:
    pixels, found = many([ROWS, FLAT])
    assert (pixels.shape, found) == ((2, 784), "0-255")
    np.testing.assert_array_equal(pixels[0], pixels[1])


def test_one_range_holds_for_all_images_of_a_request() -> None:
    faint = [1] + [0] * 783
    assert many([faint, faint])[1] == "0-1"
    pixels, found = many([faint, FLAT])
    assert (found, pixels[0].max()) == ("0-255", 1)


def test_a_wrong_image_among_many_is_named() -> None:
    for wrong, reason in ((ROWS[1:], "27x28"), ([300] + [0] * 783, "from 0 to 300"), (None, "single"), ("x", "base64")):
        with pytest.raises(InvalidImage, match=reason) as refusal:
            many([ROWS, FLAT, wrong])
        assert refusal.value.pointer == "/images/2"
