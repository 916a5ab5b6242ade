"""Any grey picture of one digit as MNIST would have it: 28x28, white ink on black.

MNIST's authors fitted black and white digits into 20x20 with their aspect kept, and moved their centre of mass to the
middle of 28x28 (http://yann.lecun.com/exdb/mnist). The middle is that of the pixel after the middle: the centre of
mass of all 70,000 images lies between 14 and 15 pixels from the edges, 14.5 on average. Half a pixel beside it
costs 3 points of accuracy.
"""

import numpy as np
from PIL import Image

from service.errors import InvalidImage
from service.serving.decoding import Grey
from service.serving.paper import (
    Floats,
    Paper,
    blurred,
    find_paper,
    is_dark,
    noise_of,
    reduced,
    resized,
    spread,
    without_lines,
)
from service.serving.strokes import BOX, FINE, main_parts, redrawn, sharpened, split, stroke_mask

__all__ = ["FAINTEST", "SIDE", "as_mnist", "blank"]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

SIDE = 28
MIDDLE = 14.5
WORK = 512
"""Longest side of the picture in which the digit is looked for. It is read from the whole picture."""
FAINTEST = 16
"""Grey levels between paper and ink; a picture with less is blank. In uneven light, twice as many."""
LOOK = 160
"""Longest side of the picture in which the ink's parts are told from one another."""
NOISY = 4.0
"""Standard deviation, in grey levels, from which noise is smoothed."""


def as_mnist(grey: Grey, steps: list[str]) -> Floats:
    """Find the digit in a picture and draw it as MNIST's are: float32 (28, 28), whole numbers of 0..255.

    Args:
        grey: any size and brightness.
        steps: is told what was done.

    Raises:
        InvalidImage: there is no ink in it.
    """
    factor = -(-max(grey.shape) // WORK)
    small = _shrunk(grey, factor)
    dark = is_dark(small)
    if dark:
        small = 255 - small
    else:
        steps.append("inverted")
    paper = find_paper(small)
    if paper.uneven is not None:
        steps.append("light_evened")
    noise = noise_of(small) * 255 / max(paper.level, 64)
    ink = paper.ink(small)
    if noise > NOISY:
        steps.append("noise_smoothed")
    bare = without_lines(ink)
    if bare is not ink:
        steps.append("lines_removed")
    box = _located(bare, noise, FAINTEST if paper.uneven is None else 2 * FAINTEST, steps)
    if factor > 1 and bare is ink and max(box[2] - box[0], box[3] - box[1]) < BOX * FINE:
        ink, noise = _closer(grey, dark, paper, box, factor)  # the digit is small in a large picture
    else:
        ink = bare[box[1] : box[3], box[0] : box[2]]
    return _drawn(ink, noise, steps)


def blank() -> InvalidImage:
    """The error for a picture without ink."""
    return InvalidImage("there is no ink in the picture: it is all of one colour")


def _shrunk(grey: Grey, factor: int) -> Floats:
    image = Image.fromarray(grey)
    return np.asarray(image.reduce(factor) if factor > 1 else image, dtype=np.float32)


def _located(ink: Floats, noise: float, faintest: float, steps: list[str]) -> Box:
    """Where the digit is in the picture, with a little paper around it: left, top, right, bottom.

    Raises:
        InvalidImage: no ink stands out.
    """
    quiet, left_over = _quiet(ink, noise)
    small = reduced(quiet, LOOK)
    left_over *= max(small.shape) / max(ink.shape)
    strongest = float(small.max())
    if strongest < max(faintest, 6 * left_over):
        raise blank()
    threshold = split(small)
    dark = float(np.median(small[small >= threshold]))
    least = max(min(threshold, dark / 2), 4 * left_over)
    mask = small >= least
    parts = main_parts(mask)
    if parts.sum() < mask.sum():
        steps.append("specks_removed")
    steps.append("cropped")
    near = Image.fromarray(spread(parts.astype(np.float32), 1)).resize(ink.shape[::-1], Image.Resampling.NEAREST)
    rows, columns = np.nonzero((np.asarray(near) > 0) & (quiet >= least))
    if not len(rows):
        raise blank()
    top, bottom, left, right = int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
    margin = max(2, round(0.05 * max(bottom - top, right - left)))
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(ink.shape[1], right + margin),
        min(ink.shape[0], bottom + margin),
    )


def _closer(grey: Grey, dark: bool, paper: Paper, box: Box, factor: int) -> tuple[Floats, float]:
    """The ink of a part of a large picture in finer pixels, and their noise."""
    left, top, right, bottom = (side * factor for side in box)
    part = Image.fromarray(grey).crop((left, top, min(right, grey.shape[1]), min(bottom, grey.shape[0])))
    width, height = part.size
    fine = np.asarray(part.reduce(max(1, max(part.size) // (2 * BOX * FINE))), dtype=np.float32)
    if dark:
        fine = 255 - fine
    wide, high = -(-grey.shape[1] // factor) * factor, -(-grey.shape[0] // factor) * factor
    place = (left / wide, top / high, (left + width) / wide, (top + height) / high)
    return paper.ink(fine, place), noise_of(fine) * 255 / max(paper.level, 64)


def _quiet(ink: Floats, noise: float) -> tuple[Floats, float]:
    """With little noise, and how much is left. A median filter would eat thin strokes."""
    return (blurred(ink, 0.8), noise / 2.8) if noise > NOISY else (ink, noise)


def _drawn(ink: Floats, noise: float, steps: list[str]) -> Floats:
    """The digit in the cropped ink, drawn anew in 28x28."""
    ink, noise = _quiet(ink, noise)
    ink = sharpened(resized(ink, BOX * FINE / max(ink.shape)))
    parts = main_parts(stroke_mask(ink, 4 * noise))
    rows, columns = np.nonzero(parts)
    drawn, changed = redrawn(parts[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    steps.append("sharpened")
    if changed:
        steps.append("stroke_width_changed")
    steps += ["fitted", "centred"]
    return _centred(resized(drawn, BOX / max(drawn.shape)))


def _centred(digit: Floats) -> Floats:
    """In the middle of 28x28 by its centre of mass."""
    height, width = digit.shape
    total = digit.sum()
    row = (digit.sum(axis=1) * (np.arange(height) + 0.5)).sum() / total
    column = (digit.sum(axis=0) * (np.arange(width) + 0.5)).sum() / total
    top = int(np.clip(round(MIDDLE - row), 0, SIDE - height))
    left = int(np.clip(round(MIDDLE - column), 0, SIDE - width))
    canvas = np.zeros((SIDE, SIDE), dtype=np.float32)
    canvas[top : top + height, left : left + width] = digit
    return np.rint(canvas)
