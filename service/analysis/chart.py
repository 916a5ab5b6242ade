"""A figure without its drawing: titles, units, colours, order and numbers.

`plotly_json.py` and `images.py` draw it, so that the page and the files cannot disagree:
docs/decisions/0010-figures.md.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.domain.experiment import ACTIVATIONS, EpochMetrics

__all__ = [
    "BLUE",
    "DASHES",
    "FAMILIAR",
    "FILLS",
    "GREEN",
    "GREY",
    "GRID",
    "LOOK_ORDER",
    "LOSS",
    "MARKERS",
    "MOST_MARKED",
    "MOST_MISTAKES",
    "MOST_TILES",
    "NORM",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "RIGHT_SCALE",
    "SKY",
    "TEST_SHARE",
    "TEXT",
    "TRAINING_SHARE",
    "VERMILLION",
    "WRONG_SCALE",
    "Axis",
    "Cells",
    "DepthPoint",
    "Figure",
    "Lines",
    "Numbers",
    "Panel",
    "Pictures",
    "Run",
    "Series",
    "Tile",
    "finite",
    "rounded",
]

Numbers = tuple[float | None, ...]

# Hues of Okabe and Ito, "Color Universal Design" (2008), made darker or lighter until each stands out by 3:1
# (WCAG 1.4.11) from a white page and from a black one (#121212). Under simulated protan-, deuter- and tritanopia
# (Machado et al. 2009) any two stay 0.07 apart in OKLab; about 0.02 is seen. A test measures it.
BLUE, VERMILLION, GREEN, PURPLE = "#0077BA", "#B04C00", "#007353", "#9C5B7F"
ORANGE, SKY, GREY = "#BE8300", "#4694C0", "#8E8E8E"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
FILLS = ("", "-open", "-dot", "-open-dot")

TEXT = "#767676"
"""Read on white (4.5:1) and on black (4.1:1). A page that knows its own colour sets `layout.font.color`."""
GRID = "rgba(128,128,128,0.3)"
RIGHT_SCALE = ("#D5E7F4", BLUE)
WRONG_SCALE = ("#FBE7D6", "#DE8A4A")
"""All light enough for dark numbers."""

FAMILIAR = (
    *("relu", "sigmoid", "tanh", "gelu", "elu", "silu", "linear"),
    *("leaky_relu", "hard_sigmoid", "hard_tanh", "mish", "selu", "hard_silu", "softplus"),
)
LOOK_ORDER = FAMILIAR + tuple(name for name in ACTIVATIONS if name not in FAMILIAR)
"""What an activation looks like is its place here: the first seven have a colour filled."""

LOSS = "loss\n(cross-entropy, nats)"
TRAINING_SHARE = "accuracy\n(share of images read right)"
TEST_SHARE = "test accuracy\n(share of 10,000 read right)"
NORM = "norm of the kernel's gradient\n(nats per unit of weight)"

MOST_MARKED = 30
"""Points of a line up to which each gets a marker."""
MOST_NATS = 100.0
"""Loss from which on an axis goes by powers of ten. A guess costs 2.3."""
MOST_TILES = 50
MOST_MISTAKES = 30


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction of a panel."""

    title: str
    """What is measured, and its unit. A newline where a phone needs one."""
    log: bool = False
    low: float | None = None
    """Where the axis begins; by the data where None. Above 0 on a log axis."""
    high: float | None = None
    ticks: tuple[tuple[float, str], ...] = ()
    """Places and labels of the ticks; the renderer's choice where empty."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Some points of one colour and shape. Colours, dashes and markers are named as Plotly names them."""

    name: str
    """Series of one name, also in different panels, share an entry in the legend."""
    x: tuple[float, ...]
    y: Numbers
    """None leaves a gap."""
    low: Numbers = ()
    """Lower end of what surrounds each point: of a band, or of an error bar."""
    high: Numbers = ()
    around: Literal["band", "bar"] = "band"
    colour: str
    dash: str | None = "solid"
    """None draws no line."""
    marker: str | None = "circle"
    size: int = 7
    """Width of a marker, px."""
    faint: bool = False
    legend: bool = True
    hover: str
    """Plotly's hover template."""
    texts: tuple[str, ...] = ()
    """`%{text}` of the hover template, for each point."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Series over two axes."""

    title: str = ""
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    height: int = 230
    """px, without what is written around it."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A table of counts: the diagonal in one scale of colours, the rest in another, zeros left empty."""

    x_title: str
    y_title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """A row for each true class, a column for each answer."""

    def share(self, row: int, column: int) -> float:
        """Of the images of a row's class, how many got a column's answer."""
        return self.counts[row][column] / max(1, sum(self.counts[row]))

    @property
    def top(self) -> float:
        """Share at which a mistake has the full colour: the largest, but at least 0.05."""
        size = range(len(self.labels))
        return max([0.05, *(self.share(row, column) for row in size for column in size if row != column)])


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image, and what is written under it."""

    image: npt.NDArray[np.uint8]
    """(28, 28)."""
    caption: tuple[str, ...]
    """Lines."""
    mistake: bool
    hover: str


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Images in rows; mistakes have a frame, and say what was read."""

    tiles: tuple[Tile, ...]


Panel = Lines | Cells | Pictures


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture without its drawing: panels from top to bottom. Without a panel the note alone is shown."""

    title: str
    note: str
    """What one must know to read it, in a sentence or two."""
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a sweep, as far as it has come."""

    activation: str
    depth: int
    seed: int
    variant: str = ""
    """What else tells its arm from others, such as "64 units". Empty where a sweep varies nothing else."""
    epochs: tuple[EpochMetrics, ...] = ()
    test_accuracy: float | None = None
    """None until it has succeeded."""


@dataclass(frozen=True, kw_only=True)
class DepthPoint:
    """What the runs of one arm gave."""

    activation: str
    depth: int
    variant: str = ""
    mean: float | None
    """Mean test accuracy over seeds."""
    low: float | None
    """Lower end of the mean's 95% interval; None where there is none, as for a single run."""
    high: float | None
    accuracies: tuple[float, ...]
    """Test accuracy of each run."""


def rounded(value: float) -> float:
    """Six digits: more is not seen, and makes the JSON longer."""
    return float(f"{value:.6g}")


def finite(values: Iterable[float | None]) -> Numbers:
    """Rounded, and null where a number is missing, NaN or infinite."""
    return tuple(rounded(value) if value is not None and math.isfinite(value) else None for value in values)
