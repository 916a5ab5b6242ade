"""Figures: what is drawn where, that Plotly takes the JSON, and that the files are files."""

import base64
import io
import itertools
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from service.analysis import axes, chart, figures, images, plotly_json, sweep_figures
from service.analysis.chart import DepthPoint, Figure, Run
from service.domain.experiment import ACTIVATIONS, EpochMetrics, Spec

RELU = Spec(activation="relu", depth=2)
DIGITS = tuple("0123456789")


def epoch(number: int, **values: Any) -> EpochMetrics:
    norms = (0.01, 0.1, 1.0)
    plain = {"loss": 1 / number, "accuracy": 0.5, "val_loss": 2 / number, "val_accuracy": 0.6, "seconds": 0.4}
    return EpochMetrics.model_validate({"epoch": number, "gradient_norms": norms} | plain | values)


def epochs(count: int = 3) -> tuple[EpochMetrics, ...]:
    return tuple(epoch(number) for number in range(1, count + 1))


def run(activation: str = "relu", depth: int = 2, seed: int = 0, **values: Any) -> Run:
    plain: dict[str, Any] = {"epochs": epochs(), "test_accuracy": 0.9}
    return Run(activation=activation, depth=depth, seed=seed, **(plain | values))


def point(activation: str, depth: int, *accuracies: float, **values: Any) -> DepthPoint:
    mean = sum(accuracies) / len(accuracies) if accuracies else None
    ends = {"mean": mean, "low": None, "high": None}
    return DepthPoint(activation=activation, depth=depth, accuracies=accuracies, **(ends | values))


def digits(count: int, mistakes: Sequence[int] = (), confidence: float = 0.87) -> Figure:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    truths = np.arange(count) % 10
    guesses = truths.copy()
    guesses[list(mistakes)] = (guesses[list(mistakes)] + 5) % 10
    return figures.gallery(pixels, truths, guesses, np.full(count, confidence), DIGITS, "relu")


def matrix(labels: Sequence[str] = DIGITS) -> Figure:
    counts = np.diag(np.full(len(labels), 90))
    counts[4, -1] += 10 * (len(labels) == 10)
    return figures.confusion_matrix(counts, labels, "relu")


SWEEP = [run(activation, depth, seed) for activation in ("relu", "sigmoid") for depth in (1, 2) for seed in range(3)]

FULL = {
    "learning curves": figures.learning_curves(epochs(), RELU),
    "gradient norms": figures.gradient_norms(epochs(), RELU),
    "confusion matrix": matrix(),
    "confusion matrix of long names": matrix(("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")),
    "gallery": digits(50, mistakes=(4, 7)),
    "learning curves of a sweep": sweep_figures.learning_curves(SWEEP),
    "gradient norms of a sweep": sweep_figures.gradient_norms(SWEEP),
    "accuracy by depth": sweep_figures.accuracy_by_depth(
        [point("relu", 1, 0.92, 0.93, low=0.91, high=0.94), point("relu", 2, 0.93), point("sigmoid", 1, 0.89, 0.9)]
    ),
    "seed scatter": sweep_figures.seed_scatter(SWEEP),
}
NOTHING = np.zeros((0, 28, 28), dtype=np.uint8)
NONE = np.zeros(0, dtype=np.int64)
EMPTY = {
    "learning curves": figures.learning_curves([], RELU),
    "gradient norms": figures.gradient_norms([], RELU),
    "confusion matrix": figures.confusion_matrix(np.zeros((10, 10), dtype=np.int64), DIGITS, "relu"),
    "gallery": figures.gallery(NOTHING, NONE, NONE, np.zeros(0), DIGITS, "relu"),
    "learning curves of a sweep": sweep_figures.learning_curves([run(epochs=())]),
    "gradient norms of a sweep": sweep_figures.gradient_norms([]),
    "accuracy by depth": sweep_figures.accuracy_by_depth([point("relu", 1)]),
    "seed scatter": sweep_figures.seed_scatter([run(test_accuracy=None)]),
}
every_figure = pytest.mark.parametrize(
    "figure", [*FULL.values(), *EMPTY.values()], ids=[*FULL, *(f"no {name}" for name in EMPTY)]
)


def traces(figure: Figure, kind: str = "scatter") -> list[dict[str, Any]]:
    return [one for one in plotly_json.plotly(figure)["data"] if one["type"] == kind and one.get("fill") is None]


def lines(panel: Any) -> chart.Lines:
    assert isinstance(panel, chart.Lines)
    return panel


@every_figure
def test_plotly_takes_the_figure(figure: Figure) -> None:
    made = plotly_json.plotly(figure)
    assert go.Figure(made).to_plotly_json().keys() == {"data", "layout"}
    assert made["layout"]["title"]["text"]


@every_figure
def test_the_json_is_strict_and_small(figure: Figure) -> None:
    assert len(json.dumps(plotly_json.plotly(figure), allow_nan=False)) < 200_000


@every_figure
def test_a_figure_fits_a_phone_and_any_page(figure: Figure) -> None:
    layout = plotly_json.plotly(figure)["layout"]
    assert "width" not in layout
    assert layout["autosize"]
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert layout["legend"]["orientation"] == "h"
    assert layout["margin"]["l"] + layout["margin"]["r"] < 40
    head = re.sub(r"<(?!br)[^>]*>", "", layout["title"]["text"])
    assert max(map(len, head.split("<br>"))) <= 52


@every_figure
@pytest.mark.parametrize("width", [360, 900])
def test_a_png_has_the_width_asked_for_twice(figure: Figure, width: int) -> None:
    with Image.open(io.BytesIO(images.render(figure, "png", width))) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width == 2 * width
        assert picture.getpixel((0, 0)) == (255, 255, 255, 0)
        assert picture.getbbox() is not None


@every_figure
def test_an_svg_holds_its_title_as_text(figure: Figure) -> None:
    svg = images.render(figure, "svg")
    text = " ".join("".join(ET.fromstring(svg).itertext()).split())
    assert figure.title in text
    assert svg == images.render(figure, "svg")


@pytest.mark.parametrize("figure", EMPTY.values(), ids=EMPTY)
def test_nothing_to_draw_is_said(figure: Figure) -> None:
    assert figure.panels == ()
    assert re.search(r"No (epoch has ended|image was read yet|experiment has succeeded)\.", figure.note)
    made = plotly_json.plotly(figure)
    assert made["data"] == []
    assert figure.note in made["layout"]["title"]["text"]


@pytest.mark.parametrize("name", [name for name in FULL if name not in {"gallery"}])
def test_axes_have_titles_with_units(name: str) -> None:
    layout = plotly_json.plotly(FULL[name])["layout"]
    titles = {key: axis.get("title", {}).get("text", "") for key, axis in layout.items() if re.match("[xy]axis", key)}
    assert all(title for key, title in titles.items() if key.startswith("y"))
    assert any(title for key, title in titles.items() if key.startswith("x"))
    assert re.search(r"nats|share of|number of|arm", " ".join(titles.values()))


def test_the_renderers_show_the_same_words() -> None:
    for figure in FULL.values():
        drawn = json.dumps(plotly_json.plotly(figure), ensure_ascii=False)
        svg = ET.fromstring(images.render(figure, "svg"))
        written = {"".join(one.itertext()) for one in svg.iter("{http://www.w3.org/2000/svg}text")}
        for panel in figure.panels:
            if isinstance(panel, chart.Lines):
                words = {*panel.y.title.split("\n"), *(one.name for one in panel.series if one.legend)}
                assert all(word in drawn for word in words)
                assert words <= written


def test_learning_curves_draw_training_and_test_apart() -> None:
    training, test, *shares = traces(FULL["learning curves"])
    assert training["y"] == [1.0, 0.5, 0.333333]
    assert test["y"] == [2.0, 1.0, 0.666667]
    assert [one["y"][0] for one in shares] == [0.5, 0.6]
    assert training["line"]["dash"] != test["line"]["dash"]
    assert training["marker"]["symbol"] != test["marker"]["symbol"]
    assert [one["showlegend"] for one in (training, test, *shares)] == [True, True, False, False]


def test_a_null_leaves_a_gap() -> None:
    figure = figures.learning_curves([epoch(1), epoch(2, val_loss=math.nan), epoch(3)], RELU)
    test = traces(figure)[1]
    assert test["y"] == [2.0, None, 0.666667]
    assert test["connectgaps"] is False


def test_a_long_training_has_no_markers_and_few_ticks() -> None:
    panel = lines(figures.learning_curves(epochs(1000), RELU).panels[0])
    assert {one.marker for one in panel.series} == {None}
    assert [label for _, label in panel.x.ticks] == ["1", *(str(tick) for tick in range(100, 1001, 100))]


def test_gradient_norms_lie_on_a_log_axis_by_layer() -> None:
    figure = figures.gradient_norms(epochs(20), RELU)
    assert [one["name"] for one in traces(figure)] == [f"epoch {number}" for number in (1, 5, 9, 12, 16, 20)]
    first = traces(figure)[0]
    assert (first["x"], first["y"]) == ([1, 2, 3], [0.01, 0.1, 1.0])
    axis = plotly_json.plotly(figure)["layout"]["yaxis"]
    assert axis["type"] == "log"
    assert axis["range"] == [-2, 1]
    assert axis["ticktext"] == ["10⁻²", "10⁻¹", "10⁰", "10¹"]


def test_norms_of_zero_and_null_are_counted_and_left_out() -> None:
    figure = figures.gradient_norms([epoch(1, gradient_norms=(0.0, None, 1.0))], RELU)
    assert traces(figure)[0]["y"] == [None, None, 1.0]
    assert "2 are not drawn" in figure.note


def test_the_mean_over_seeds_has_the_band_of_all_seeds() -> None:
    runs = [run(seed=seed, epochs=(epoch(1, val_loss=loss),)) for seed, loss in enumerate((1.0, 2.0, 6.0))]
    one = lines(sweep_figures.learning_curves(runs).panels[0]).series[0]
    assert (one.y, one.low, one.high, one.texts) == ((3.0,), (1.0,), (6.0,), ("mean of 3",))


def test_a_mean_without_a_diverged_seed_is_not_drawn() -> None:
    runs = [run(seed=0), run(seed=1, epochs=(epoch(1), epoch(2, val_loss=None)))]
    figure = sweep_figures.learning_curves(runs)
    one = lines(figure.panels[0]).series[0]
    assert one.y == (2.0, None, 0.666667)
    assert one.texts == ("mean of 2", "mean of 2", "mean of 1")
    band = next(trace for trace in plotly_json.plotly(figure)["data"] if trace.get("fill"))
    assert band["x"] == [1, 1, None, 3, 3, None]


def test_a_loss_that_was_lost_leaves_the_others_readable() -> None:
    lost = figures.learning_curves([epoch(1, val_loss=0.5), epoch(2, val_loss=6e5)], RELU)
    assert lines(lost.panels[0]).y == chart.Axis(
        title=chart.LOSS, log=True, low=0.1, high=1e6, ticks=axes._powers(-1, 6)
    )
    assert not lines(figures.learning_curves(epochs(), RELU).panels[0]).y.log


def test_a_sweep_of_long_trainings_stays_small() -> None:
    runs = [run(activation, 2, seed, epochs=epochs(1000)) for activation in ACTIVATIONS[:12] for seed in (0, 1)]
    figure = sweep_figures.learning_curves(runs)
    assert len(json.dumps(plotly_json.plotly(figure))) < 400_000
    x = lines(figure.panels[0]).series[0].x
    assert (x[0], x[-1]) == (1, 1000)


def test_norms_over_seeds_are_geometric_means_after_the_first_and_last_epoch() -> None:
    runs = [
        run(seed=seed, epochs=(epoch(1, gradient_norms=(low, 1.0, 1.0)), epoch(2, gradient_norms=(0.1, 1.0, 1.0))))
        for seed, low in enumerate((1e-4, 1e-2))
    ]
    first, last = (lines(panel) for panel in sweep_figures.gradient_norms(runs).panels)
    assert first.series[0].y == (0.001, 1.0, 1.0)
    assert last.series[0].y == (0.1, 1.0, 1.0)
    assert (first.y.low, first.y.high) == (last.y.low, last.y.high)


def test_a_norm_that_vanished_for_one_seed_leaves_a_gap_in_the_mean() -> None:
    runs = [run(seed=seed, epochs=(epoch(1, gradient_norms=(low, 1.0)),)) for seed, low in enumerate((0.0, 1e-2))]
    figure = sweep_figures.gradient_norms(runs)
    one = lines(figure.panels[0]).series[0]
    assert (one.y, one.low, one.high) == ((None, 1.0), (None, 1.0), (None, 1.0))
    assert "2 are not drawn" in figure.note


def test_deep_networks_have_lines_without_markers() -> None:
    deep = (epoch(1, gradient_norms=(0.1,) * 65),)
    alone = figures.gradient_norms(deep, Spec(activation="relu", depth=64))
    swept = sweep_figures.gradient_norms([run(depth=64, epochs=deep)])
    assert {one.marker for panel in (*alone.panels, *swept.panels) for one in lines(panel).series} == {None}


def test_variants_stand_in_the_order_of_the_sweep() -> None:
    variants = ("units 16", "units 64", "units 128")
    runs = [run(variant=variant) for variant in variants]
    names = [one.name for one in lines(sweep_figures.learning_curves(runs).panels[0]).series]
    assert names == [f"relu, depth 2, {variant}" for variant in variants]
    points = [point("relu", 1, 0.9, variant=variant) for variant in variants]
    drawn = lines(sweep_figures.accuracy_by_depth(points).panels[0]).series
    assert [one.name for one in drawn if one.legend] == [f"relu, {variant}" for variant in variants]


def test_an_interval_beyond_1_leaves_the_axis_where_accuracies_are() -> None:
    axis = lines(sweep_figures.accuracy_by_depth([point("relu", 1, 0.8, 1.0, low=0.5, high=1.3)]).panels[0]).y
    assert axis.low == pytest.approx(0.475)
    assert axis.high == 1.0
    inside = lines(sweep_figures.accuracy_by_depth([point("relu", 1, 0.92, low=0.91, high=0.93)]).panels[0]).y
    assert (inside.low, inside.high) == (None, None)


def test_long_names_in_the_legend_are_broken_for_a_phone() -> None:
    variant = "units 64, learning rate 0.001, initializer glorot_uniform"
    figure = sweep_figures.learning_curves([run("leaky_relu", variant=variant)])
    (name,) = {trace["name"] for trace in traces(figure)}
    assert max(map(len, name.split("<br>"))) <= plotly_json.NAME
    assert name.replace("<br>", " ") == f"leaky_relu, depth 2, {variant}"
    text = "\n".join(ET.fromstring(images.render(figure, "svg", 360)).itertext())
    assert "initializer" in text
    assert variant not in text


def test_intervals_stand_around_their_means() -> None:
    dots, means = traces(FULL["accuracy by depth"])[:2]
    assert dots["y"] == [0.92, 0.93, 0.93]
    assert means["y"] == [0.925, 0.93]
    assert means["error_y"]["array"] == [0.015, None]
    assert means["error_y"]["arrayminus"] == [0.015, None]
    assert means["text"][0] == "depth 1: mean 0.9250 of 2, 95% interval 0.9100 to 0.9400"
    assert "No interval where there is one run only" in FULL["accuracy by depth"].note


def test_a_seed_keeps_its_place_in_every_row() -> None:
    figure = sweep_figures.seed_scatter([run("relu", 1, 3), run("relu", 1, 5), run("sigmoid", 1, 5, test_accuracy=0.8)])
    relu, mean, sigmoid, _ = traces(figure)
    assert relu["text"] == ["3", "5"]
    assert sigmoid["y"][0] - 1 == pytest.approx(relu["y"][1])
    assert (mean["x"], mean["y"]) == ([0.9], [0])
    assert plotly_json.plotly(figure)["layout"]["yaxis"]["ticktext"] == ["relu<br>depth 1", "sigmoid<br>depth 1"]


def test_the_confusion_matrix_separates_right_from_wrong() -> None:
    right, wrong = traces(FULL["confusion matrix"], "heatmap")
    assert right["z"][3][3] == 1
    assert right["z"][4][9] is None
    assert wrong["z"][4][9] == 0.1
    assert wrong["z"][3][3] is None
    assert wrong["text"][4][9] == "10"
    assert wrong["hovertext"][4][9] == "4 read as 9: 10 of 100 images (10.0%)"
    assert "900 of 910 test images" in FULL["confusion matrix"].note


def test_counts_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(9, 10\)"):
        figures.confusion_matrix(np.ones((9, 10), dtype=np.int64), DIGITS, "relu")


def test_mistakes_come_first_with_a_frame_and_words() -> None:
    figure = digits(20, mistakes=(14,))
    made = plotly_json.plotly(figure)
    assert made["layout"]["annotations"][0]["text"] == "<b>4 read as 9</b><br>0.87"
    assert made["layout"]["annotations"][1]["text"] == "0<br>0.87"
    assert len(made["layout"]["shapes"]) == 1
    (points,) = traces(figure)
    assert points["text"][:2] == ["4 read as 9, 0.87", "0, read right, 0.87"]


def test_the_gallery_shows_the_images_bit_by_bit() -> None:
    figure = digits(7)
    panel = figure.panels[0]
    assert isinstance(panel, chart.Pictures)
    (trace,) = traces(figure, "image")
    mosaic = Image.open(io.BytesIO(base64.b64decode(trace["source"].split(",")[1])))
    for tile, (left, upper) in zip(panel.tiles, plotly_json.corners(panel, 5), strict=True):
        grey = np.asarray(mosaic.crop((left, upper, left + 28, upper + 28)))
        assert (grey[..., 0] == tile.image).all()
        assert (grey[..., 1] == 255).all()


def test_a_gallery_of_many_mistakes_still_shows_what_is_read_right() -> None:
    panel = digits(200, mistakes=range(100)).panels[0]
    assert isinstance(panel, chart.Pictures)
    assert [tile.mistake for tile in panel.tiles] == [True] * 30 + [False] * 20
    only_mistakes = digits(60, mistakes=range(60)).panels[0]
    assert isinstance(only_mistakes, chart.Pictures)
    assert len(only_mistakes.tiles) == 50


def test_an_activation_looks_the_same_in_every_figure_and_like_no_other() -> None:
    looks = {activation: axes.look_of(activation) for activation in ACTIVATIONS}
    assert len(set(looks.values())) == len(ACTIVATIONS)
    for figure in (FULL["learning curves of a sweep"], FULL["gradient norms of a sweep"], FULL["accuracy by depth"]):
        for one in traces(figure):
            assert one["line"]["color"] == looks[one["name"].split(",")[0]][0]


def test_depths_differ_by_more_than_colour() -> None:
    series = lines(FULL["learning curves of a sweep"].panels[0]).series
    assert len({(one.dash, one.marker) for one in series if one.name.startswith("relu")}) == 2


# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# severity 1.0, on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}
# Björn Ottosson, "A perceptual color space for image processing" (2020).
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.793617785, -0.0040720468],
        [1.9779984951, -2.428592205, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.808675766],
    ]
)


def linear(colour: str) -> Any:
    part = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    dark, light = sorted(float(linear(colour) @ (0.2126, 0.7152, 0.0722)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("eye", EYES)
def test_colours_stay_apart_for_every_eye(eye: str) -> None:
    seen = [TO_LAB @ np.cbrt(TO_CONES @ np.clip(EYES[eye] @ linear(colour), 0, 1)) for colour in chart.PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.07


@pytest.mark.parametrize("page", ["#FFFFFF", "#121212"])
def test_colours_stand_out_from_light_and_dark_pages(page: str) -> None:
    assert min(contrast(colour, page) for colour in chart.PALETTE) >= 3
    assert contrast(chart.TEXT, page) >= 4


def test_the_page_needs_no_network_and_no_text_ends_its_script() -> None:
    page = images.render(
        figures.confusion_matrix(np.eye(2, dtype=np.int64), ("</script>", "b"), "relu"), "html"
    ).decode()
    assert page.count("</script>") == 2
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert "<title>What was read as what: relu</title>" in page


def test_json_is_what_the_api_answers() -> None:
    figure = FULL["learning curves"]
    assert json.loads(images.render(figure, "json")) == plotly_json.plotly(figure)


def test_the_api_draws_without_plotly_and_matplotlib() -> None:
    asked = "import sys, service.analysis.figures; print({'plotly', 'matplotlib', 'tensorflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout == "set()\n"
