"""A digit's strokes: which pixels are its, how wide they are, and the same digit drawn with strokes as MNIST's are."""

import numpy as np
import numpy.typing as npt

from service.serving.paper import Floats, blurred, spread

__all__ = ["BOX", "FINE", "main_parts", "redrawn", "sharpened", "split", "stroke_mask"]

Mask = npt.NDArray[np.bool_]

FINE = 6
"""Pixels for one of MNIST's, where strokes are measured and drawn."""
BOX = 20
WIDTH = 2.6
"""MNIST's strokes are so wide on average, in its own pixels: 1.9 to 3.3 in eight of ten training images, measured as
`redrawn` does."""
PART = 0.06
"""Share of the largest part from which another part of the ink is no speck."""


def sharpened(ink: Floats) -> Floats:
    """Unsharp mask of 1.5 of MNIST's pixels: opens the loops of digits that were enlarged from few pixels."""
    sigma = 1.5 * FINE
    pad = round(3 * sigma)
    wide = np.pad(ink, pad)
    sharp = np.clip(2 * wide - blurred(wide, sigma), 0, None)[pad:-pad, pad:-pad]
    return np.asarray(sharp * (255 / max(float(sharp.max()), 1)), dtype=np.float32)


def stroke_mask(ink: Floats, floor: float) -> Mask:
    """Which pixels are ink: half as dark as the darkest within a stroke's width of them, so that faint strokes
    stay whole beside dark ones.

    Args:
        ink: 0..255, at FINE pixels for one of MNIST's.
        floor: what is fainter is noise.
    """
    dark = float(np.median(ink[ink >= split(ink)]))
    nearby = np.minimum(spread(ink, FINE * 3 // 2), dark)
    return np.asarray(ink >= np.maximum(nearby * np.float32(0.5), max(0.2 * dark, floor)))


def split(ink: Floats) -> float:
    """The level that parts ink from paper best (Otsu, *A Threshold Selection Method from Gray-Level Histograms*,
    1979).
    """
    counts = np.bincount(np.clip(ink, 0, 255).astype(np.uint8).ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    moment = np.cumsum(counts * np.arange(256))
    apart = below * (below[-1] - below)
    between = (moment[-1] * below / below[-1] - moment) ** 2 / np.where(apart > 0, apart, np.inf)
    return min(float(between.argmax()) + 1, float(ink.max()))


def main_parts(mask: Mask) -> Mask:
    """Without specks, and without what reaches in from outside while the digit lies whole in the picture."""
    from scipy import ndimage  # late, as in paper.py

    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    outside = np.zeros(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[edge] = True
    inside = np.where(outside, 0, sizes)
    if inside.max() >= 0.1 * sizes.max():
        sizes = inside
    kept: Mask = (sizes >= PART * sizes.max()) & (sizes > 0)
    return kept[labels]


def redrawn(mask: Mask) -> tuple[Floats, bool]:
    """The digit with strokes of MNIST's width, for its longer side becoming 20 of MNIST's pixels.

    Every point's distance to the strokes' edge is known, so that the edge can be moved by any part of a pixel. Where a
    thin stroke would vanish, its middle line is kept.

    Args:
        mask: the ink, cropped to it.

    Returns:
        float32 (height, width) of 0..255, cropped to the ink, and whether the strokes were changed.
    """
    from scipy.ndimage import distance_transform_edt

    longer = max(mask.shape)
    pad = 3 * FINE
    mask = np.pad(mask, pad)
    inner, outer = distance_transform_edt(mask), distance_transform_edt(~mask)
    width = 4 * (float(inner[mask].mean()) - 0.5)  # a strip's points are a quarter of its width from its edges
    move = 0.0
    if width < 0.6 * longer:
        wanted = WIDTH * (longer - width) / (BOX - WIDTH)  # as wide, when what is then left has become 20 high
        move = float(np.clip((wanted - width) / 2, -0.45 * width, pad - 2))
    drawn = np.clip(np.where(mask, inner - 0.5, 0.5 - outer) + np.float32(move + 0.5), 0, 1)
    if move < 0:
        down, across = np.gradient(inner)
        middle = mask & (np.hypot(down, across) < 0.5) & (inner >= 0.35 * width)
        if middle.any():
            half = 0.9 * (width / 2 + move)
            drawn = np.maximum(drawn, np.clip(half + 0.5 - distance_transform_edt(~middle), 0, 1))
    rows, columns = np.nonzero(drawn > 0.5)
    drawn = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.asarray(drawn * 255, dtype=np.float32), abs(move) > FINE / 8
