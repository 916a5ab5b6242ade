"""Figures over HTTP: Plotly takes every one, also while there is little to draw."""

import json
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import plotly.graph_objects as go
import pytest
from typer.testing import CliRunner

from service.api.figures import OfExperiment, OfSweep
from service.commands.application import app
from service.settings import Settings
from tests.conftest import succeed
from tests.integration.conftest import Api, problem, serving
from tests.integration.test_api_comparison import swept, train
from tests.integration.test_api_events import claim, create, record

pytestmark = pytest.mark.slow

CURVES = ("learning-curves", "gradient-norms")


def figure(api: Api, path: str) -> dict[str, Any]:
    answer = api.get(path).raise_for_status()
    found: dict[str, Any] = json.loads(answer.text, parse_constant=lambda name: pytest.fail(name))
    go.Figure(found)  # raises where Plotly would not draw
    assert found["layout"]["title"]["text"]
    return found


@pytest.mark.parametrize("name", CURVES)
def test_an_experiments_curves_grow_with_it(api: Api, name: str) -> None:
    experiment_id = create(api)
    path = f"/experiments/{experiment_id}/figures/{name}"
    assert figure(api, path)["data"] == []
    claimed = claim(api)
    for epoch in (1, 2):
        record(api, claimed, epoch)
    drawn = [trace for trace in figure(api, path)["data"] if trace.get("x")]
    assert drawn


@pytest.mark.parametrize("name", ["confusion-matrix", "gallery"])
def test_what_a_model_reads_is_drawn_on_the_real_test_images(data_dir: Path, tiny_onnx: bytes, name: str) -> None:
    with serving(Settings(data_dir=data_dir)) as api:
        experiment = succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        found = figure(api, f"/experiments/{experiment.id}/figures/{name}")
        assert len(json.dumps(found)) < 200_000
        if name == "confusion-matrix":
            texts = [trace["customdata"] if "customdata" in trace else trace.get("text") for trace in found["data"]]
            assert texts
            assert "10,000" in json.dumps(found)


def test_a_figure_of_a_model_that_is_not_there_says_why(sqlite_api: Api) -> None:
    experiment_id = create(sqlite_api)
    problem(sqlite_api.get(f"/experiments/{experiment_id}/figures/gallery"), 409, "experiment-not-finished")
    problem(sqlite_api.get(f"/experiments/{experiment_id}/figures/nope"), 422)


@pytest.mark.parametrize("name", get_args(OfSweep))
def test_a_sweep_is_drawn_as_far_as_it_has_come(api: Api, name: str) -> None:
    sweep = swept(api)
    path = f"/sweeps/{sweep}/figures/{name}"
    figure(api, path)
    if name in CURVES:
        claimed = claim(api)
        for epoch in (1, 2):
            record(api, claimed, epoch, loss=float(np.float32(0.3)))
    else:
        train(api, 6)
    assert figure(api, path)["data"]


def test_a_run_that_was_repeated_is_drawn_once(sqlite_api: Api) -> None:
    sweep = swept(sqlite_api)
    train(sqlite_api, 8)
    path = f"/sweeps/{sweep}/figures/seed-scatter"
    before = figure(sqlite_api, path)
    one = sqlite_api.get(f"/experiments?sweep_id={sweep}").json()["data"][0]
    sqlite_api.post(one["links"]["retry"]).raise_for_status()
    assert figure(sqlite_api, path) == before
    train(sqlite_api, 1)
    assert figure(sqlite_api, path) == before


def test_there_is_no_figure_of_nothing(empty_api: Api) -> None:
    nobody = "01a20f00-0000-7000-8000-000000000000"
    for name in get_args(OfExperiment):
        problem(empty_api.get(f"/experiments/{nobody}/figures/{name}"), 404, "experiment-not-found")
    for name in get_args(OfSweep):
        problem(empty_api.get(f"/sweeps/{nobody}/figures/{name}"), 404, "sweep-not-found")


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("html", b"<!doctype html")])
def test_figures_come_as_files_too(sqlite_api: Api, kind: str, begins: bytes, tmp_path: Path) -> None:
    sweep = swept(sqlite_api)
    train(sqlite_api, 8)
    answer = sqlite_api.get(f"/sweeps/{sweep}/figures/seed-scatter?format={kind}&width=400").raise_for_status()
    assert answer.content.lower().startswith(begins.lower())
    output = tmp_path / f"scatter.{kind}"
    done = CliRunner().invoke(
        app, ["figure", sweep, "seed-scatter", "-o", str(output), "--width", "400", "--url", str(sqlite_api.base_url)]
    )
    assert done.exit_code == 0, done.output
    assert output.read_bytes().lower().startswith(begins.lower())


def test_a_service_without_the_extra_says_so(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.analysis.images", None)
    path = f"/experiments/{create(sqlite_api)}/figures/learning-curves"
    assert "epochd[figures]" in problem(sqlite_api.get(f"{path}?format=png"), 501, "not-installed")["detail"]
    sqlite_api.get(path).raise_for_status()


@pytest.mark.parametrize("query", ["format=gif", "width=1", "width=99999", "colour=red"])
def test_what_cannot_be_drawn_is_refused(sqlite_api: Api, query: str) -> None:
    problem(sqlite_api.get(f"/experiments/{create(sqlite_api)}/figures/learning-curves?{query}"), 422)
