"""Blocks of the documentation that give its figures, and take minutes: in smaller numbers, which give other figures."""

import re
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.main import open_ports
from service.settings import Settings
from tests.acceptance.conftest import serving
from tests.acceptance.documentation import DOCS, ROOT, SECONDS, address, apart, ends, lasts
from tests.conftest import succeed

pytestmark = [
    pytest.mark.skipif(not shutil.which("bash"), reason="the pages are for bash"),
    pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "epochd").exists(), reason="the pages use a checkout's .venv"),
]


def rows(text: str) -> list[str]:
    """The first cells of a table's rows, without the head."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]


def shown(section: str) -> list[str]:
    """The first cells of the table in this section of the page on statistics."""
    page = (DOCS / "statistics.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return rows(found[1])[2:]


def test_coverage_of_intervals_is_told_for_each_population(tmp_path: Path) -> None:
    coverage, _ = apart("statistics.md", __file__)
    rng = np.random.default_rng(1)
    accuracies = [f"{kind},{seed},{rng.normal(0.9, 0.01):.4f}\n" for kind in ("sigmoid", "relu") for seed in range(30)]
    (tmp_path / "runs.csv").write_text("".join(accuracies))
    told = ends(coverage.replace("4000", "40").replace("runs.csv", f"{tmp_path}/runs.csv"), ROOT)
    expected = [re.sub(r"\d+ real", "30 real", row) for row in shown("Does a 95% interval cover in 95 of 100 cases?")]
    assert rows(told) == expected


def test_differences_where_there_are_none_are_counted_for_each_size_of_sweep() -> None:
    _, null = apart("statistics.md", __file__)
    told = ends(re.sub(r"\b(\d)000\b", r"\g<1>0", null), ROOT)
    assert rows(told) == shown("Is a difference found where there is none?")


@pytest.mark.timeout(SECONDS + 20)
def test_how_well_pictures_are_read_is_tested_and_logged() -> None:
    (measure,) = apart("pictures.md", __file__)
    told = ends(measure.replace("PICTURES=1000", "PICTURES=400"), ROOT)
    assert re.search(r"plain: \{'128 units': 0\.9\d+, '16 units': 0\.9\d+\}", told)
    assert "10 passed" in told


def test_tensorboard_shows_what_was_exported(tmp_path: Path, tiny_onnx: bytes) -> None:
    (show,) = apart("export.md", __file__)
    with open_ports(Settings(data_dir=tmp_path)) as ports:
        made = succeed(ports.database, ports.blobs, tiny_onnx)
    with serving(tmp_path, "--no-worker") as service:
        ends("epochd export --to tensorboard --output runs", tmp_path, EPOCHD_URL=service.url)
    with lasts(show, tmp_path, ready="Press CTRL+C to quit") as line:
        runs = httpx.get(f"{address(line)}data/runs").raise_for_status().json()
    assert [run[-12:] for run in runs] == [made.id[-12:]]
