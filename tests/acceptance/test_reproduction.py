"""`epochd reproduce`, in small: a real service trains, and page and figures are written from what it answers."""

import xml.etree.ElementTree as ET
from pathlib import Path

from rich.console import Console

from service import reproduction
from service.analysis import images
from service.settings import Settings


def test_the_page_is_written_with_its_figures_from_real_trainings(data_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "docs"
    page = reproduction.run(
        Settings(data_dir=data_dir, port=0),
        Console(quiet=True),
        render=lambda figure: images.render(figure, "svg"),
        output=output,
        seeds=3,
        activations=("sigmoid", "relu"),
        depths=(1, 4),
        epochs=1,
    )
    text = page.read_text()
    assert "`epochd reproduce --seeds 3 --epochs 1`" in text
    assert "12 networks of 1 epoch in" in text
    assert "None of these networks is like them: they had 1 epoch." in text
    for network in ("sigmoid, depth 1", "sigmoid, depth 4", "relu, depth 1", "relu, depth 4"):
        assert text.count(f"| {network} |") == 2
    assert "| sigmoid, depth 4 | 0.0" in text.split("## Why")[1]  # the ratio: below a tenth
    assert text.split("## Why")[1].count("3 of 3") == 4
    for figure in ("accuracy-by-depth", "seed-scatter", "learning-curves", "gradient-norms"):
        assert f"](figures/{figure}.svg)" in text
        assert ET.parse(output / "figures" / f"{figure}.svg").getroot().tag.endswith("svg")
    assert "nan" not in text
