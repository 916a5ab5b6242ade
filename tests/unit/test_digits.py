"""A digit on any paper becomes the same 28x28: even or uneven light, thin or thick pen, lines, specks, noise."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from service.errors import InvalidImage
from service.serving.digits import as_mnist
from service.serving.paper import Floats, find_paper, is_dark, noise_of, without_lines
from service.serving.strokes import main_parts, redrawn

SIZE = (400, 300)


def drawn(width: int = 16, size: tuple[int, int] = SIZE) -> Floats:
    """How much ink there is, 0..1: a 4 of three strokes."""
    image = Image.new("L", size)
    pen = ImageDraw.Draw(image)
    for start, end in (((190, 80), (150, 160)), ((150, 160), (230, 160)), ((210, 110), (205, 230))):
        pen.line([start, end], fill=255, width=width)
        for x, y in (start, end):
            pen.ellipse([x - width // 2, y - width // 2, x + width // 2, y + width // 2], fill=255)
    return np.asarray(np.asarray(image) / 255, dtype=np.float32)


def photo(ink: Floats, paper: npt.ArrayLike = 230.0, noise: float = 0.0) -> npt.NDArray[np.uint8]:
    grey = np.asarray(paper) * (1 - 0.8 * ink) + np.random.default_rng(0).normal(0, noise + 1e-9, ink.shape)
    return np.asarray(np.clip(grey, 0, 255), dtype=np.uint8)


def shade() -> Floats:
    """Light that falls from 240 to 80 across the picture."""
    return np.broadcast_to(np.linspace(240, 80, SIZE[0], dtype=np.float32), SIZE[::-1])


def shadow() -> Floats:
    """A shadow with a hard edge through the digit."""
    paper = np.full(SIZE[::-1], 230, dtype=np.float32)
    paper[:, 200:] = 120
    return paper


def ruled() -> Floats:
    paper = np.full(SIZE[::-1], 235, dtype=np.float32)
    for row in range(20, SIZE[1], 40):
        paper[row : row + 2] = 170
    return paper


def speckled(ink: Floats) -> Floats:
    specks = ink.copy()
    for row, column in ((40, 40), (250, 350), (130, 300), (60, 200)):
        specks[row : row + 4, column : column + 4] = 1
    return specks


def table(ink: Floats) -> Floats:
    """Beside the paper there is something dark."""
    edge = ink.copy()
    edge[:, 340:] = 0.9
    return edge


PICTURES: dict[str, tuple[npt.NDArray[np.uint8], list[str]]] = {
    "dark": (255 - photo(drawn()), []),
    "grey on grey": (photo(drawn(), 110), ["inverted"]),
    "white on grey": (255 - photo(drawn(), 140), []),
    "faint": ((230 - 40 * drawn()).astype(np.uint8), ["inverted"]),
    "noise": (photo(drawn(), noise=25), ["inverted", "noise_smoothed"]),
    "shade": (photo(drawn(), shade()), ["inverted", "light_evened"]),
    "shadow": (photo(drawn(), shadow(), noise=3), ["inverted", "light_evened"]),
    "ruled": (photo(drawn(), ruled(), noise=2), ["inverted", "lines_removed"]),
    "squared": (photo(drawn(), np.minimum(ruled(), 235)), ["inverted", "lines_removed"]),
    "specks": (photo(speckled(drawn())), ["inverted", "specks_removed"]),
    "a table": (photo(table(drawn())), ["inverted", "light_evened"]),
    "thin": (photo(drawn(5)), ["inverted"]),
    "thick": (photo(drawn(28)), ["inverted"]),
}


@pytest.mark.parametrize(("picture", "steps"), PICTURES.values(), ids=PICTURES.keys())
def test_the_same_digit_comes_out_whatever_the_paper_and_pen(picture: npt.NDArray[np.uint8], steps: list[str]) -> None:
    usual = as_mnist(photo(drawn()), [])
    done: list[str] = []
    found = as_mnist(picture, done)
    shifted = [np.roll(usual, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    alike = max(np.corrcoef(found.ravel(), other.ravel())[0, 1] for other in shifted)
    assert alike > 0.85
    assert done[: len(steps)] == steps
    assert done[-2:] == ["fitted", "centred"]


def test_a_small_digit_in_a_large_picture_is_read_from_the_large_one() -> None:
    large = np.full((3000, 4000), 230, dtype=np.uint8)
    large[2500:2800, 3500:3900] = photo(drawn())
    found, usual = as_mnist(large, []), as_mnist(photo(drawn()), [])
    assert np.corrcoef(found.ravel(), usual.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (5, 5), (1, 4000), (3000, 2)])
def test_the_smallest_and_the_narrowest_pictures_give_a_digit_or_a_refusal(shape: tuple[int, int]) -> None:
    chance = np.random.default_rng(0)
    for grey in (
        np.zeros(shape, np.uint8),
        chance.integers(0, 256, shape, np.uint8),
        np.eye(*shape, dtype=np.uint8) * 255,
    ):
        try:
            found = as_mnist(grey, [])
        except InvalidImage:
            continue
        assert found.shape == (28, 28)
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 255


@pytest.mark.parametrize("paper", [230, shade(), 20], ids=["even", "uneven", "dark"])
def test_paper_without_ink_is_refused(paper: npt.ArrayLike) -> None:
    for noise in (0.0, 6.0):
        with pytest.raises(InvalidImage, match="no ink"):
            as_mnist(photo(np.zeros(SIZE[::-1], np.float32), paper, noise), [])


def test_papers_light_is_found_under_the_ink() -> None:
    grey = photo(drawn(), shade()).astype(np.float32)
    paper = find_paper(grey)
    assert not is_dark(grey)
    assert paper.uneven is not None
    ink = paper.ink(grey)
    assert ink[drawn() > 0.99].min() > 150
    assert ink[drawn() == 0].max() < 50
    assert find_paper(photo(drawn()).astype(np.float32)).uneven is None


def test_one_line_alone_may_be_a_stroke() -> None:
    ink = np.zeros((200, 200), dtype=np.float32)
    ink[100:103] = 200
    assert without_lines(ink) is ink
    ink[150:153] = 200
    assert without_lines(ink).max() == 0


def test_noise_is_measured_and_strokes_are_no_noise() -> None:
    assert noise_of(np.float32(255) * drawn()) == 0
    assert noise_of(photo(drawn(), 128, noise=10).astype(np.float32)) == pytest.approx(10, rel=0.1)


def test_parts_of_a_digit_stay_and_specks_go() -> None:
    mask = np.zeros((50, 50), dtype=bool)
    mask[10:40, 10:15] = mask[10:15, 20:40] = True
    mask[45, 45] = True
    found = main_parts(mask)
    assert found[10:40, 10:15].all()
    assert found[10:15, 20:40].all()
    assert found.sum() == mask.sum() - 1


@pytest.mark.parametrize("width", [4, 8, 16, 24])
def test_strokes_get_the_width_of_mnists(width: int) -> None:
    mask = np.ones((120, width), dtype=bool)
    found, changed = redrawn(mask)
    ink = found.sum() / 255 / len(found) / len(found) * 20  # the width, for a height of 20
    assert ink == pytest.approx(2.6, abs=0.4)
    assert changed == (width != 16)
