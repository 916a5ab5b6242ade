"""Where a picture has ink, and how much: light or dark paper, even light or not.

Light on paper multiplies: a shadow takes the same share of what paper and ink reflect. So ink is measured as the share
of the paper's brightness that is missing, and the paper's brightness is found from the picture itself by a
morphological closing, which removes what is dark and narrower than its window (Serra, *Image Analysis and
Mathematical Morphology*, 1982). All sizes are of a picture that was reduced to 96 pixels a side.

SciPy's filters are imported where they are used: 30 MB and 0.2 s that a service without such pictures never pays.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Paper", "blurred", "find_paper", "is_dark", "noise_of", "reduced", "resized", "spread", "without_lines"]

Floats = npt.NDArray[np.float32]
"""float32 (height, width) of 0..255."""

SIDE = 96
RADII = (1, 2, 4, 7, 12, 20)
"""Half windows that are tried for the widest stroke."""
MARGIN = RADII[-1] + 4
NEAR = 12
"""Grey levels around the border's median that count as the same paper."""
FAINT = 0.12
"""Share of the darkest ink from which a line is one."""
EVEN = 16
"""Most grey levels between the lightest and the darkest paper where light is even."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """The paper's brightness: one number, or an array over the whole picture where the light is uneven."""

    level: float
    uneven: Floats | None

    def ink(self, grey: Floats, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Floats:
        """How much ink a part of the picture has: 0..255. The paper is light.

        Args:
            grey: the part's pixels.
            box: where it is, as shares of the picture's width and height: left, top, right, bottom.
        """
        if self.uneven is None:
            return np.asarray(np.clip(np.float32(self.level) - grey, 0, 255))
        height, width = self.uneven.shape
        place = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        image = Image.fromarray(self.uneven).resize(grey.shape[::-1], Image.Resampling.BILINEAR, box=place)
        share = 1 - grey / np.maximum(np.asarray(image), 16)
        return np.asarray(np.clip(share * np.float32(255), 0, 255), dtype=np.float32)


def is_dark(grey: Floats) -> bool:
    """Whether the ink is light, on a dark ground.

    Where most of the border is of one brightness, ink is what differs most from it. Elsewhere the light is uneven, and
    narrow dark things are compared with narrow light ones.
    """
    small = reduced(grey, SIDE)
    level, share = _border(small)
    if share >= 0.5:
        return bool(small.max() - level > level - small.min())
    logs = blurred(np.log(reduced(grey, 64) + 8), 0.6)  # in logarithms, ink is as strong in shadow as in light
    balance = 0.0
    for radius in RADII[:-1]:
        dark, light = _closed(logs, radius) - logs, logs + _closed(-logs, radius)
        balance += float((light**2).sum() - (dark**2).sum()) / radius
    return balance > 0


def find_paper(grey: Floats) -> Paper:
    """The brightness of light paper under and around dark ink.

    The window is twice the narrowest at which the ink comes out nearly as strong as at any: wider ones would take a
    shadow's edges for ink.
    """
    small = reduced(grey, SIDE)
    if noise_of(small) > 2:
        small = blurred(small, 0.8)
    level, share = _border(small)
    if share >= 0.98:
        return Paper(level=level, uneven=None)
    wide: Floats = np.pad(small, MARGIN, constant_values=level) if share >= 0.5 else np.pad(small, MARGIN, mode="edge")
    logs = np.log(wide + 16)
    strengths = [float(np.percentile(_closed(logs, radius) - logs, 99.8)) for radius in RADII]
    narrowest = next(r for r, strength in zip(RADII, strengths, strict=True) if strength >= 0.8 * max(strengths))
    radius = min(max(2 * narrowest, 3), MARGIN)
    found = blurred(_closed(wide, radius), 1)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return Paper(level=level, uneven=None if np.ptp(found) < EVEN else found)


def without_lines(ink: Floats) -> Floats:
    """Ruled and squared paper's lines taken away: thin ink that runs from one edge of the picture to the other. The
    array itself is returned where there are fewer than two such lines; one alone may be a digit's own stroke.
    """
    across, rows = _lines(ink)
    down, columns = _lines(ink.T)
    if rows + columns < 2:
        return ink
    return np.clip(ink - np.float32(1.15) * np.maximum(across, down.T), 0, None)


def _lines(ink: Floats) -> tuple[Floats, int]:
    """The level lines' ink, and how many there are.

    An opening by half the picture's width keeps just the lines. Where a stroke crosses one, it is as strong as the
    line alone, so that the stroke's own ink stays.
    """
    height, width = ink.shape
    if width < 48:
        return np.zeros_like(ink), 0
    faint = max(8.0, FAINT * float(ink.max()))
    edge, band = max(2, width // 32), max(1, height // 100)
    thick = _highest(ink, 1, 0)  # a line that is not quite level goes on in the next row
    ends = [thick[:, side].min(axis=1, keepdims=True) for side in (np.s_[:edge], np.s_[-edge:])]
    left, right = (_highest(end, band, 0) for end in ends)
    from_edge_to_edge = np.minimum(left, right) > faint
    if not from_edge_to_edge.any():
        return np.zeros_like(ink), 0
    lines = _opened(thick, width // 4, 1)
    bars = _opened(lines, max(3, height // 40), 0)
    lines = np.where(bars < 0.3 * lines, lines - bars, np.float32(0))  # and not the edge of something broad
    lines = np.where(from_edge_to_edge & (lines > faint), lines, np.float32(0))
    found = np.pad(lines.any(axis=1), (1, 0))
    return lines, int((found[1:] & ~found[:-1]).sum())


def noise_of(grey: Floats) -> float:
    """The noise's standard deviation, in grey levels (Immerkaer, *Fast Noise Variance Estimation*, 1996; with the
    median, so that edges do not count).
    """
    if min(grey.shape) < 5:
        return 0.0
    rows = grey[:-2] - 2 * grey[1:-1] + grey[2:]
    return float(np.median(np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]))) / 0.6745 / 6


def blurred(grey: Floats, sigma: float) -> Floats:
    """Gaussian blur; the edge's pixels go on outside."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(grey, sigma, mode="nearest", truncate=3), dtype=np.float32)


def reduced(grey: Floats, side: int) -> Floats:
    """With the longer side at most this long."""
    scale = side / max(grey.shape)
    return grey if scale >= 1 else resized(grey, scale)


def resized(grey: Floats, scale: float) -> Floats:
    """Each new pixel is the mean of what it covers, or smoothly between the old ones."""
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    new = Image.fromarray(np.ascontiguousarray(grey)).resize(size, how)
    return np.asarray(np.clip(np.asarray(new), 0, 255), dtype=np.float32)


def spread(grey: Floats, radius: int) -> Floats:
    """The highest of the (2 radius + 1)² pixels around each."""
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter(grey, 2 * radius + 1, mode="nearest"))


def _closed(grey: Floats, radius: int) -> Floats:
    return -spread(-spread(grey, radius), radius)


def _highest(grey: Floats, radius: int, axis: int) -> Floats:
    """The highest of 2 radius + 1 pixels along an axis."""
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter1d(grey, 2 * radius + 1, axis, mode="nearest"))


def _opened(grey: Floats, radius: int, axis: int) -> Floats:
    """What is at least 2 radius + 1 pixels long along an axis."""
    return _highest(-_highest(-grey, radius, axis), radius, axis)


def _border(grey: Floats) -> tuple[float, float]:
    """The median of the border, and the share of the border that is near it."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    level = float(np.median(border))
    return level, float((np.abs(border - level) <= NEAR).mean())
