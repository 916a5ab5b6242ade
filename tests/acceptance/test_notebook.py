"""The notebook does what it shows: executed against a real service, its cells answer as they are told to have."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "notebook.ipynb"
NUMBER = re.compile(r"-?\d+\.\d+")
FREE = "words-may-differ"
"""Tag of cells whose words depend on small differences, which another processor may make."""


def answers(path: Path) -> list[tuple[bool, list[tuple[str, str]]]]:
    """For each cell of code: whether its words may differ, and the kind and the text of each answer."""
    notebook: Any = nbformat.read(path, as_version=4)
    return [
        (FREE in cell.metadata.get("tags", ()), [told(output) for output in cell.outputs])
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def told(output: Any) -> tuple[str, str]:
    return (output.output_type, output.text) if "text" in output else (" ".join(sorted(output.data)), "")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Path:
    path = tmp_path_factory.mktemp("notebook") / "executed.ipynb"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "scripts/notebook.py", "--data-dir", mnist_dir.parent, "--output", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return path


def test_every_cell_answers_as_it_is_shown_to_have(executed: Path) -> None:
    now, shown = answers(executed), answers(COMMITTED)
    assert [[kind for kind, _ in cell] for _, cell in now] == [[kind for kind, _ in cell] for _, cell in shown]
    for (free, here), (_, there) in zip(now, shown, strict=True):
        for (_, text), (_, wanted) in zip(here, there, strict=True):
            if not free:
                assert NUMBER.sub("#", text) == NUMBER.sub("#", wanted)
                assert list(map(float, NUMBER.findall(text))) == pytest.approx(
                    list(map(float, NUMBER.findall(wanted))), abs=0.1
                )


def test_figures_are_kept_as_pictures(executed: Path) -> None:
    kinds = [kind for _, cell in answers(executed) for kind, _ in cell]
    assert kinds.count("image/svg+xml") == 4
    assert kinds.count("image/png") == 2


def test_the_notebook_is_small_and_tells_nothing_of_who_executed_it() -> None:
    text = COMMITTED.read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert not re.search(r"127\.0\.0\.1|localhost|0x[0-9a-f]{6,}", text)
    for place in (ROOT, Path.home(), tempfile.gettempdir()):
        assert f"{place}/" not in text
