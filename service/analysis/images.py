"""Figures as files: PNG and SVG by Matplotlib, without a browser, and one HTML page with Plotly in it.

Matplotlib and Plotly come with the extra `epochd[figures]`. Nothing here is imported by the API.
"""

import html
import io
import json
import math
import threading
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from service.analysis.chart import (
    RIGHT_SCALE,
    TEXT,
    VERMILLION,
    WRONG_SCALE,
    Axis,
    Cells,
    Figure,
    Lines,
    Panel,
    Pictures,
    Series,
)
from service.analysis.plotly_json import (
    GAP,
    HEADING,
    SIDE,
    columns_in,
    corners,
    mosaic_size,
    plotly,
    stretches,
    wrapped,
)

__all__ = ["Format", "render"]

Format = Literal["png", "svg", "html", "json"]
Box = tuple[float, float, float, float]
"""Left, lower, width and height, px, from the lower left corner."""

DPI = 100
SHARP = 2
"""Pixels of a PNG for each px of the layout, as on a phone."""
WIDE = 700
"""px from which panels stand beside each other."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8.6,  # pt: 12 px
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "grid.color": "#808080",
    "grid.alpha": 0.3,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.fonttype": "none",  # text stays text: it can be read aloud and searched
    "svg.hashsalt": "epochd",  # the same figure gives the same bytes
}
DASHES: dict[str, Any] = {
    "solid": "solid",
    "dash": (0, (4, 1.5)),
    "dot": (0, (1, 1.2)),
    "dashdot": (0, (4, 1.5, 1, 1.5)),
    "longdash": (0, (8, 2)),
    "longdashdot": (0, (8, 2, 1, 2)),
}
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "star": "*",
    "pentagon": "p",
    "line-ns": "|",
}
# Matplotlib has no dotted markers: half-filled ones stand for them.
FILLS: dict[str, Any] = {"": "full", "-open": "none", "-dot": "left", "-open-dot": "bottom"}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ margin: 0 auto; max-width: 60rem }}</style>
<div id="figure" role="img" aria-label="{told}"></div>
<script>{script}</script>
<script>
const figure = {figure};
figure.layout.font.color = getComputedStyle(document.body).color;
Plotly.newPlot("figure", figure.data, figure.layout, {{responsive: true, displayModeBar: false}});
</script>
</html>
"""


_ONE_AT_A_TIME = threading.Lock()
"""Matplotlib's settings belong to the process, not to a thread."""


def render(figure: Figure, kind: Format, width: int = 900) -> bytes:
    """The figure as a file.

    Args:
        figure: What is seen.
        kind: `png` and `svg` have a transparent background. `html` is one page that needs no network (5 MB);
            `json` is what the API answers.
        width: px of a PNG or SVG, at least 240. A PNG has twice as many pixels each way.
    """
    if kind == "json":
        return json.dumps(plotly(figure), allow_nan=False).encode()
    if kind == "html":
        return _page(figure).encode()
    with _ONE_AT_A_TIME, mpl.rc_context(STYLE):
        canvas = _drawn(figure, max(240, width))
        file = io.BytesIO()
        about: dict[str, Any] = {"Title": figure.title, "Description": figure.note}
        if kind == "svg":
            about["Date"] = None
        canvas.savefig(file, format=kind, dpi=DPI * SHARP, transparent=True, metadata=about)
    return file.getvalue()


def _page(figure: Figure) -> str:
    script = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    drawing = json.dumps(plotly(figure), allow_nan=False).replace("<", "\\u003c")  # no text may end the script
    title, told = html.escape(figure.title), html.escape(f"{figure.title}. {figure.note}")
    return PAGE.format(title=title, told=told, script=script, figure=drawing)


def _drawn(figure: Figure, width: int) -> Canvas:
    """All panels under the title and above the legend."""
    title, note = wrapped(figure.title, (width - 24) * 10 // 98), wrapped(figure.note, (width - 24) * 10 // 72)
    top = 22 + 20 * len(title) + 15 * len(note)
    columns = 2 if width >= WIDE and len(figure.panels) > 1 else 1
    across = width // columns
    heights = [_height(panel, across) for panel in figure.panels]
    rows = [max(heights[at : at + columns]) for at in range(0, len(heights), columns)]
    entries = _entries(figure)
    names = [wrapped(one.name, (width - 24 - 62) // 7) for one in entries]
    beside = max(1, (width - 24) // max([1, *(62 + 7 * len(line) for name in names for line in name)]))
    lines = max(map(len, names), default=1)
    legend = 12 + (4 + 14 * lines) * math.ceil(len(entries) / beside) if entries else 8
    height = top + (sum(rows) or 60) + legend
    canvas = Canvas(figsize=(width / DPI, height / DPI), dpi=DPI)
    for at, line in enumerate(title):
        canvas.text(12 / width, 1 - (24 + 20 * at) / height, line, size=11.5, weight="bold")
    for at, line in enumerate(note):
        canvas.text(12 / width, 1 - (24 + 20 * len(title) + 15 * at) / height, line)
    for at, panel in enumerate(figure.panels):
        upper = top + sum(rows[: at // columns])
        box = (at % columns * across, height - upper - heights[at], across, heights[at])
        _draw(canvas, panel, box)
    if entries:
        canvas.legend(
            [_handle(one) for one in entries],
            ["\n".join(name) for name in names],
            loc="lower left",
            bbox_to_anchor=(4 / width, 0),
            ncols=beside,
            frameon=False,
            handlelength=3.4,
            columnspacing=1.2,
            labelspacing=0.35,
        )
    return canvas


def _height(panel: Panel, width: float) -> int:
    """Of a panel with all that is written around it, px."""
    if isinstance(panel, Lines):
        return panel.height + HEADING * bool(panel.title) + 52 + 15 * panel.x.title.count("\n")
    if isinstance(panel, Cells):
        longest = max(map(len, panel.labels))
        return max(120, 34 * len(panel.labels)) + 56 + (7 * longest if longest > 2 else 0)
    across, down = mosaic_size(panel, columns_in(panel, width - 20))
    return round(down * (width - 24) / across) + 8


def _entries(figure: Figure) -> list[Series]:
    """The first series of each name."""
    series = [one for panel in figure.panels if isinstance(panel, Lines) for one in panel.series if one.legend]
    return list({one.name: one for one in reversed(series)}.values())[::-1]


def _draw(canvas: Canvas, panel: Panel, box: Box) -> None:
    left, lower, width, height = box
    if isinstance(panel, Pictures):
        axes = _axes(canvas, (left + 12, lower + 8, width - 24, height - 8))
        _draw_pictures(axes, panel, columns_in(panel, width - 20))
        return
    under = (
        50 + 15 * panel.x.title.count("\n")
        if isinstance(panel, Lines)
        else _height(panel, width) - 34 * len(panel.labels)
    )
    over = HEADING if isinstance(panel, Lines) and panel.title else 2
    axes = _axes(canvas, (left + 60, lower + under, width - 72, height - under - over))
    if isinstance(panel, Lines):
        _draw_lines(axes, panel)
    else:
        _draw_cells(axes, panel)
    # Labels take what they need on the left; the plot gets the rest.
    canvas.draw_without_rendering()
    outer, inner = axes.get_tightbbox(), axes.get_window_extent()
    if outer is not None:
        edge = left + 10 + (inner.x0 - outer.x0)
        most = 56 * len(panel.labels) if isinstance(panel, Cells) else width
        axes.set_position(
            _shares(canvas, (edge, lower + under, min(most, left + width - 14 - edge), height - under - over))
        )


def _shares(canvas: Canvas, box: Box) -> Box:
    across, down = canvas.get_size_inches() * DPI
    return box[0] / across, box[1] / down, box[2] / across, box[3] / down


def _axes(canvas: Canvas, box: Box) -> Axes:
    return canvas.add_axes(_shares(canvas, box))


def _draw_lines(axes: Axes, panel: Lines) -> None:
    for one in panel.series:
        y = _floats(one.y)
        if one.low and one.around == "band":
            for piece in stretches(one):
                x, low, high = zip(*piece, strict=True)
                axes.fill_between(x, low, high, color=one.colour, alpha=0.18, linewidth=0)
        if one.low and one.around == "bar":
            lengths = [y - _floats(one.low), _floats(one.high) - y]
            axes.errorbar(one.x, y, lengths, fmt="none", ecolor=one.colour, elinewidth=1.5, capsize=2.5)
        axes.plot(one.x, y, **_look(one))
    _scale(axes.set_xlim, axes.set_xticks, panel.x)
    if panel.y.log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    _scale(axes.set_ylim, axes.set_yticks, panel.y)
    axes.set_xlabel(panel.x.title)
    axes.set_ylabel(panel.y.title)
    if panel.title:
        axes.set_title(panel.title, loc="left", size=9.4, weight="bold")


def _scale(limit: Callable[..., Any], place: Callable[..., Any], axis: Axis) -> None:
    if axis.low is not None and axis.high is not None:
        limit(axis.low, axis.high)
    if axis.ticks:
        place([at for at, _ in axis.ticks], labels=[text for _, text in axis.ticks])


def _floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """As float64: NaN, which Matplotlib leaves out, for None."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _look(one: Series) -> dict[str, Any]:
    """What a line or its entry in the legend looks like."""
    look: dict[str, Any] = {
        "color": one.colour,
        "linestyle": DASHES[one.dash] if one.dash else "none",
        "linewidth": 1.5,
        "alpha": 0.6 if one.faint else 1.0,
    }
    if one.marker:
        shape = next(shape for shape in sorted(MARKERS, key=len, reverse=True) if one.marker.startswith(shape))
        look |= {"marker": MARKERS[shape], "fillstyle": FILLS[one.marker.removeprefix(shape)]}
        look |= {"markersize": one.size * 0.72, "markeredgewidth": 2.2 if shape == "line-ns" else 1.0}
    return look


def _handle(one: Series) -> Line2D:
    return Line2D([], [], label=one.name, **_look(one))


def _draw_cells(axes: Axes, panel: Cells) -> None:
    size = len(panel.labels)
    for row in range(size):
        for column in range(size):
            count = panel.counts[row][column]
            if not count:
                continue
            scale, full = (RIGHT_SCALE, 1.0) if row == column else (WRONG_SCALE, panel.top)
            colour = _between(scale, panel.share(row, column) / full)
            axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, facecolor=tuple(colour), linewidth=0))
            ink = "white" if colour @ (0.2126, 0.7152, 0.0722) < 0.5 else "#1a1a1a"
            axes.text(column, row, str(count), ha="center", va="center", color=ink, size=7.4)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel=panel.x_title, ylabel=panel.y_title)
    axes.set_xticks(range(size), panel.labels, rotation=90 if max(map(len, panel.labels)) > 2 else 0)
    axes.set_yticks(range(size), panel.labels)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _between(scale: tuple[str, str], share: float) -> npt.NDArray[np.float64]:
    """A colour of a scale, RGB of 0 to 1: float64 (3,)."""
    low, high = (np.array([int(end[at : at + 2], 16) / 255 for at in (1, 3, 5)]) for end in scale)
    return np.asarray(low + (high - low) * min(1.0, share))


def _draw_pictures(axes: Axes, panel: Pictures, columns: int) -> None:
    width, height = mosaic_size(panel, columns)
    for tile, (left, upper) in zip(panel.tiles, corners(panel, columns), strict=True):
        axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, extent=(left, left + SIDE, upper + SIDE, upper))
        if tile.mistake:
            frame = Rectangle((left - 1, upper - 1), SIDE + 2, SIDE + 2, fill=False, edgecolor=VERMILLION, linewidth=2)
            axes.add_patch(frame)
        for line, text in enumerate(tile.caption):
            weight = "bold" if tile.mistake and not line else "normal"
            below = upper + SIDE + GAP / 2 + 1 + 5.5 * (line + 0.3)
            axes.text(left + SIDE / 2, below, text, ha="center", va="center", size=6.2, weight=weight)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", anchor="NW")
    axes.set_axis_off()
