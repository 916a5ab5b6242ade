"""A figure as Plotly's JSON. Plotly itself is not imported: docs/decisions/0010-figures.md."""

import base64
import io
import math
import textwrap
from typing import Any

import numpy as np
from PIL import Image

from service.analysis.chart import (
    GRID,
    RIGHT_SCALE,
    TEXT,
    VERMILLION,
    WRONG_SCALE,
    Axis,
    Cells,
    Figure,
    Lines,
    Numbers,
    Pictures,
    Series,
    finite,
    rounded,
)

__all__ = [
    "GAP",
    "HEADING",
    "SIDE",
    "columns_in",
    "corners",
    "mosaic_size",
    "plotly",
    "stretches",
    "wrapped",
]

Json = dict[str, Any]

PHONE = 340
"""px that may be drawn on, on a phone 360 px wide."""
HEADING, TICKS, LINE, ENTRY = 26, 30, 15, 19
"""Heights, px: of a panel's title, of what stands under an axis, of a line of text, of a row of the legend."""
NAME = 44
"""Characters of the legend that fit beside a line on a phone."""
SIDE, GAP = 28, 6
"""Pixels of an image, and between images."""


def plotly(figure: Figure) -> Json:
    """The figure as Plotly's JSON, `{"data": [...], "layout": {...}}`, without NaN and infinity.

    It has a height and no width: give Plotly `{responsive: true}`. Panels lie below each other, as a phone needs them.
    """
    title, note = wrapped(figure.title, 38), wrapped(figure.note, 52)
    small = "<br>".join(f'<span style="font-size:12px">{line}</span>' for line in note)
    top = 30 + 21 * (len(title) + len(note))
    bottom = _legend_height(figure)
    bands = [_heights(figure, at) for at in range(len(figure.panels))]
    inner = sum(map(sum, bands)) or 120
    height = top + inner + bottom
    layout: Json = {
        "autosize": True,
        "height": height,
        "margin": {"l": 12, "r": 12, "t": top, "b": bottom},
        "title": {
            # Not `subtitle`: Plotly 3.x moves a title of two lines out of the picture to make room for it.
            "text": f"<b>{'<br>'.join(title)}</b><br>{small}",
            "font": {"size": 16},
            "x": 0,
            "xref": "container",
            "y": 1 - 20 / height,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 12},
        },
        "font": {"size": 12, "color": TEXT, "family": "system-ui, sans-serif"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "xref": "container",
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
        },
        "dragmode": False,  # a finger that scrolls the page must not zoom the plot instead
        "hovermode": "closest",
        "annotations": [],
        "shapes": [],
    }
    data: list[Json] = []
    above = 0
    for at, (panel, (head, drawn, below)) in enumerate(zip(figure.panels, bands, strict=True)):
        domain = [1 - (above + head + drawn) / inner, 1 - (above + head) / inner]
        number = str(at + 1) if at else ""
        if isinstance(panel, Lines):
            seen = {trace["legendgroup"] for trace in data}
            data += _line_traces(panel, number, seen)
            _add_line_axes(layout, panel, number, domain, titled=_titled(figure, at))
        elif isinstance(panel, Cells):
            data += _cell_traces(panel, number)
            _add_cell_axes(layout, panel, number, domain)
        else:
            data += _picture_traces(panel, number)
            _add_pictures(layout, panel, number, domain)
        above += head + drawn + below
    if not figure.panels:
        layout |= {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
    return {"data": data, "layout": layout}


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters: neither Plotly nor Matplotlib breaks a title by itself."""
    return textwrap.wrap(text, width) or [""]


def _titled(figure: Figure, at: int) -> bool:
    """Whether a panel's x axis needs its title: not where the panel below has the same."""
    here, below = figure.panels[at], figure.panels[at + 1 : at + 2]
    return not (
        isinstance(here, Lines) and any(isinstance(one, Lines) and one.x.title == here.x.title for one in below)
    )


def _heights(figure: Figure, at: int) -> tuple[int, int, int]:
    """Of a panel's title, of its plot, and of what stands under it, px."""
    panel = figure.panels[at]
    if isinstance(panel, Lines):
        under = TICKS + (LINE * len(panel.x.title.split("\n")) + 8 if _titled(figure, at) else 0)
        return HEADING if panel.title else 10, panel.height, under
    if isinstance(panel, Cells):
        longest = max(map(len, panel.labels))
        return 0, max(120, 34 * len(panel.labels)), TICKS + LINE + 12 + (6 * longest if longest > 2 else 0)
    width, height = mosaic_size(panel, columns_in(panel, PHONE))
    return 0, round(height * PHONE / width), 10


def _legend_height(figure: Figure) -> int:
    """Height of the legend on a phone, px: Plotly sets entries in columns as wide as the widest."""
    names = {one.name for panel in figure.panels if isinstance(panel, Lines) for one in panel.series if one.legend}
    columns = max(1, PHONE // max([1, *(48 + round(6.5 * len(name)) for name in names)]))
    broken = sum(len(wrapped(name, NAME)) - 1 for name in names)
    return 10 + ENTRY * math.ceil(len(names) / columns) + LINE * broken


def _line_traces(panel: Lines, number: str, seen: set[str]) -> list[Json]:
    traces: list[Json] = []
    for one in panel.series:
        where: Json = {"type": "scatter", "xaxis": f"x{number}", "yaxis": f"y{number}", "legendgroup": one.name}
        if one.low and one.around == "band":
            traces.append(where | _band(one))
        mode = "+".join(filter(None, ("lines" if one.dash else "", "markers" if one.marker else ""))) or "none"
        thin = one.marker is not None and one.marker.startswith("line-")
        trace: Json = where | {
            "name": "<br>".join(wrapped(one.name, NAME)),
            "x": list(one.x),
            "y": list(one.y),
            "mode": mode,
            "line": {"color": one.colour, "dash": one.dash or "solid", "width": 2},
            "marker": {
                "color": one.colour,
                "symbol": one.marker or "circle",
                "size": one.size,
                "line": {"color": one.colour, "width": 3 if thin else 1},
            },
            "opacity": 0.6 if one.faint else 1,
            "connectgaps": False,
            "showlegend": one.legend and one.name not in seen,
            "hovertemplate": one.hover,
        }
        if one.texts:
            trace["text"] = list(one.texts)
        if one.low and one.around == "bar":
            trace["error_y"] = _error_bars(one)
        if one.legend:
            seen.add(one.name)
        traces.append(trace)
    return traces


def _error_bars(one: Series) -> Json:
    def lengths(ends: Numbers) -> Numbers:
        pairs = zip(one.y, ends, strict=True)
        return finite(None if end is None or y is None else abs(end - y) for y, end in pairs)

    up, down = lengths(one.high), lengths(one.low)
    bars = {"array": list(up), "arrayminus": list(down), "color": one.colour, "thickness": 2, "width": 5}
    return {"type": "data", "symmetric": False} | bars


def stretches(one: Series) -> list[list[tuple[float, float, float]]]:
    """A band's points (x, low, high) in pieces, broken where an end is None."""
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for x, low, high in zip(one.x, one.low, one.high, strict=True):
        if low is not None and high is not None:
            pieces[-1].append((x, low, high))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _band(one: Series) -> Json:
    x: list[float | None] = []
    y: list[float | None] = []
    for piece in stretches(one):
        x += [at for at, _, _ in piece] + [at for at, _, _ in reversed(piece)] + [None]
        y += [low for _, low, _ in piece] + [high for _, _, high in reversed(piece)] + [None]
    red, green, blue = (int(one.colour[at : at + 2], 16) for at in (1, 3, 5))
    look = {"fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.18)", "mode": "none"}
    return {"name": f"{one.name}, lowest to highest", "x": x, "y": y, "showlegend": False, "hoverinfo": "skip"} | look


def _axis(axis: Axis, **more: object) -> Json:
    made: Json = {"gridcolor": GRID, "zeroline": False} | more
    if axis.low is not None and axis.high is not None:
        made["range"] = [math.log10(axis.low), math.log10(axis.high)] if axis.log else [axis.low, axis.high]
    if axis.log:
        made |= {"type": "log", "minorloglabels": "complete"}  # 0.2, not a 2 between 0.1 and 1
    if axis.ticks:
        made |= {"tickvals": [at for at, _ in axis.ticks], "ticktext": [_lines(text) for _, text in axis.ticks]}
    return made


def _lines(text: str) -> str:
    return text.replace("\n", "<br>")


def _title(text: str) -> Json:
    return {"text": _lines(text), "standoff": 8, "font": {"size": 12}}


def _add_line_axes(layout: Json, panel: Lines, number: str, domain: list[float], *, titled: bool) -> None:
    layout[f"xaxis{number}"] = _axis(panel.x, anchor=f"y{number}") | (
        {"title": _title(panel.x.title)} if titled else {}
    )
    layout[f"yaxis{number}"] = _axis(
        panel.y, anchor=f"x{number}", domain=domain, automargin=True, title=_title(panel.y.title)
    )
    if panel.title:
        head = {"text": f"<b>{panel.title}</b>", "font": {"size": 13}, "showarrow": False}
        place = {"x": 0, "xref": "paper", "xanchor": "left", "y": domain[1], "yref": "paper", "yanchor": "bottom"}
        layout["annotations"].append(head | place)


def _cell_traces(panel: Cells, number: str) -> list[Json]:
    """The diagonal and the rest, each a heatmap of shares: mistakes are few, and would all look like zero."""
    size = range(len(panel.labels))
    hover = [
        [
            f"{panel.labels[row]} read as {panel.labels[column]}: {panel.counts[row][column]:,} of "
            f"{sum(panel.counts[row]):,} images ({panel.share(row, column):.1%})"
            for column in size
        ]
        for row in size
    ]
    traces: list[Json] = []
    for diagonal, name, scale, top in ((True, "right", RIGHT_SCALE, 1.0), (False, "mistake", WRONG_SCALE, panel.top)):
        shown = [[panel.counts[row][column] > 0 and (row == column) is diagonal for column in size] for row in size]
        cells = [[rounded(panel.share(row, column)) if shown[row][column] else None for column in size] for row in size]
        texts = [[f"{panel.counts[row][column]}" if shown[row][column] else "" for column in size] for row in size]
        traces.append(
            {
                "type": "heatmap",
                "name": name,
                "legendgroup": name,
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
                "x": list(size),
                "y": list(size),
                "z": cells,
                "zmin": 0,
                "zmax": top,
                "colorscale": [[0, scale[0]], [1, scale[1]]],
                "showscale": False,
                "xgap": 2,
                "ygap": 2,
                "text": texts,
                "texttemplate": "%{text}",
                "textfont": {"size": 10} | ({} if diagonal else {"color": "#1A1A1A"}),
                "hovertext": hover,
                "hovertemplate": "%{hovertext}<extra></extra>",
                "hoverongaps": False,
            }
        )
    return traces


def _add_cell_axes(layout: Json, panel: Cells, number: str, domain: list[float]) -> None:
    size = len(panel.labels)
    ticks = tuple((float(at), label) for at, label in enumerate(panel.labels))
    x = Axis(title=panel.x_title, low=-0.5, high=size - 0.5, ticks=ticks)
    y = Axis(title=panel.y_title, low=size - 0.5, high=-0.5, ticks=ticks)
    angle = -90 if max(map(len, panel.labels)) > 2 else 0
    plain = {"showgrid": False, "fixedrange": True}
    layout[f"xaxis{number}"] = _axis(x, anchor=f"y{number}", tickangle=angle, title=_title(x.title)) | plain
    layout[f"yaxis{number}"] = (
        _axis(y, anchor=f"x{number}", domain=domain, automargin=True, title=_title(y.title)) | plain
    )


def columns_in(panel: Pictures, width: float) -> int:
    """Images in a row of `width` px: fewer where there are long names under them."""
    longest = max(len(line) for tile in panel.tiles for line in tile.caption)
    return max(3, min(10, int(width // (66 if longest <= 12 else 84))))


def mosaic_size(panel: Pictures, columns: int) -> tuple[int, int]:
    """Width and height of all tiles with their captions, in pixels of the images."""
    return columns * (SIDE + GAP), math.ceil(len(panel.tiles) / columns) * tile_height(panel)


def tile_height(panel: Pictures) -> int:
    """Pixels of the images from row to row: an image, and 6 for each line under it."""
    return SIDE + GAP + 6 * max(len(tile.caption) for tile in panel.tiles)


def corners(panel: Pictures, columns: int) -> list[tuple[int, int]]:
    """Left and upper edge of each tile's image."""
    return [
        (place % columns * (SIDE + GAP) + GAP // 2, place // columns * tile_height(panel) + GAP // 2)
        for place in range(len(panel.tiles))
    ]


def _picture_traces(panel: Pictures, number: str) -> list[Json]:
    """One PNG of all images, with nothing between them, and invisible points that tell on hover."""
    width, height = mosaic_size(panel, columns_in(panel, PHONE))
    grey_alpha = np.zeros((height, width, 2), dtype=np.uint8)
    places = corners(panel, columns_in(panel, PHONE))
    for tile, (left, upper) in zip(panel.tiles, places, strict=True):
        grey_alpha[upper : upper + SIDE, left : left + SIDE] = np.dstack([tile.image, np.full_like(tile.image, 255)])
    png = io.BytesIO()
    Image.fromarray(grey_alpha).save(png, format="PNG", optimize=True)
    where = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
    source = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    points = {
        "type": "scatter",
        "name": "images",
        "mode": "markers",
        "showlegend": False,
        "x": [left + SIDE / 2 for left, _ in places],
        "y": [upper + SIDE / 2 for _, upper in places],
        "text": [tile.hover for tile in panel.tiles],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 40, "opacity": 0},
    }
    # x0, y0: Plotly places the middle of the first pixel.
    image = {
        "type": "image",
        "name": "digits",
        "source": source,
        "hoverinfo": "skip",
        "x0": 0.5,
        "y0": 0.5,
    }
    return [image | where, points | where]


def _add_pictures(layout: Json, panel: Pictures, number: str, domain: list[float]) -> None:
    width, height = mosaic_size(panel, columns_in(panel, PHONE))
    hidden = {"visible": False, "constrain": "domain", "fixedrange": True}
    layout[f"xaxis{number}"] = {"range": [0, width], "anchor": f"y{number}", "constraintoward": "left"} | hidden
    tied = {"scaleanchor": f"x{number}", "constraintoward": "top"}
    layout[f"yaxis{number}"] = {"range": [height, 0], "anchor": f"x{number}", "domain": domain} | tied | hidden
    where = {"xref": f"x{number}", "yref": f"y{number}"}
    for tile, (left, upper) in zip(panel.tiles, corners(panel, columns_in(panel, PHONE)), strict=True):
        text = "<br>".join((f"<b>{tile.caption[0]}</b>", *tile.caption[1:]) if tile.mistake else tile.caption)
        under = {"x": left + SIDE / 2, "y": upper + SIDE + 1, "xanchor": "center", "yanchor": "top", "showarrow": False}
        layout["annotations"].append(where | under | {"text": text, "font": {"size": 9}})
        if tile.mistake:
            edge = {"x0": left - 1, "x1": left + SIDE + 1, "y0": upper - 1, "y1": upper + SIDE + 1}
            frame = {"type": "rect", "line": {"color": VERMILLION, "width": 3}}
            layout["shapes"].append(where | edge | frame)
