"""/metrics of a real API: what was done is counted, and what the database knows."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.metrics import Census
from service.domain.experiment import Spec
from service.settings import Settings
from service.store import experiments
from service.store import workers as present
from service.telemetry import metrics
from service.telemetry.folder import VARIABLE, inherited
from tests.conftest import succeed
from tests.integration.conftest import Api, problem, serving


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: bytes) -> Iterator[Api]:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("metrics"), max_queued=3)) as api:
        succeed(api.ports.database, api.ports.blobs, tiny_onnx)
        yield api


def values(api: Api) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    text = api.get("/metrics").raise_for_status().text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_the_format_is_prometheus_or_openmetrics_as_is_asked_for(shared: Api) -> None:
    plain = shared.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE epochd_experiments gauge" in plain.text
    other = shared.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert other.text.endswith("# EOF\n")


def test_a_process_that_is_started_then_has_metrics_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert inherited()[0][VARIABLE] == str(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "removed"))
    environment, _ = inherited()
    program = "from service.telemetry import metrics; metrics.ATTEMPTS_BEGUN.inc()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_a_folder_that_was_cleared_away_is_told(shared: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    assert "was removed: restart" in problem(shared.get("/metrics"), 503, "unavailable")["detail"]
    assert shared.get("/experiments").status_code == 200


def test_a_request_is_counted_under_its_route(shared: Api) -> None:
    labels = {"method": "GET", "route": "/experiments/{experiment_id}", "status": "404"}
    before = of(values(shared), "epochd_http_request_duration_seconds_count", **labels)
    for number in range(3):
        shared.get(f"/experiments/00000000-0000-7000-8000-00000000000{number}")
    found = values(shared)
    assert of(found, "epochd_http_request_duration_seconds_count", **labels) - before == 3
    assert of(found, "epochd_http_request_duration_seconds_bucket", **labels, le="+Inf") - before == 3
    assert of(found, "epochd_http_request_duration_seconds_sum", **labels) > 0


def test_what_nobody_knows_is_one_series_however_it_is_called(shared: Api) -> None:
    for number in range(3):
        shared.request("PROPFIND", f"/made-up-{number}")
    found = values(shared)
    assert of(found, "epochd_http_request_duration_seconds_count", method="OTHER", route="unmatched", status="404") >= 3
    assert not any("made-up" in value for _, labels in found for _, value in labels)


def test_predictions_are_counted_with_the_models_cache(shared: Api) -> None:
    before = values(shared)
    shared.post("/predict", json={"images": [[0.5] * 784] * 5}).raise_for_status()
    shared.post("/predict", json={"image": [0.5] * 784}).raise_for_status()
    after = values(shared)

    def more(name: str) -> float:
        return of(after, name) - of(before, name)

    assert more("epochd_predicted_images_total") == 6
    assert more("epochd_prediction_duration_seconds_count") == 2
    assert more("epochd_model_cache_misses_total") == 1
    assert more("epochd_model_cache_hits_total") >= 2
    assert of(after, "epochd_model_cache_models") == 1


def test_what_the_database_knows_is_shown(shared: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.metrics.FRESH_SECONDS", 0.0)
    with shared.ports.database.write() as session:
        worker = {"host": "here", "process": 1, "engine": "local", "slots": 1, "draining": False, "version": "0"}
        present.beat(session, "one", lease_seconds=60, trouble=None, **worker)
        present.beat(session, "gone", lease_seconds=-1, trouble=None, **worker)
        experiments.create(session, Spec(activation="relu", depth=1))
    found = values(shared)
    assert of(found, "epochd_experiments", status="queued") == of(found, "epochd_queue_depth") >= 1
    assert of(found, "epochd_experiments", status="succeeded") == 1
    assert of(found, "epochd_queue_oldest_seconds") > 0
    assert of(found, "epochd_workers", status="active") == 1
    assert of(found, "epochd_workers", status="lost") == 1
    assert of(found, "epochd_database_up") == 1


def test_many_who_ask_count_the_database_once(shared: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    census = Census(shared.ports.database)
    first = list(census.collect())
    monkeypatch.setattr(shared.ports.database, "read", None)
    assert list(census.collect()) == first


def test_a_refusal_for_want_of_room_is_counted(shared: Api) -> None:
    before = values(shared)
    refused = 0
    for _ in range(5):
        refused += shared.post("/experiments", json={"activation": "relu", "depth": 1}).status_code == 429
    assert refused
    after = values(shared)
    name = "epochd_http_requests_refused_total"
    assert of(after, name, status="429") - of(before, name, status="429") == refused


def test_many_observations_at_once_are_those_that_one_by_one_would_be() -> None:
    from prometheus_client import CollectorRegistry, Histogram

    seconds = [0.0, 0.0001, 0.001, 0.0011, 0.3, 10.0, 10.1, 99.0]
    one, many = (Histogram("h", "h", buckets=metrics.SLOW, registry=CollectorRegistry()) for _ in range(2))
    for value in seconds:
        one.observe(value)
    metrics._observe(many, seconds)

    def samples(histogram: Histogram) -> list[tuple[str, str, float]]:
        return [
            (sample.name, sample.labels.get("le", ""), sample.value)
            for family in histogram.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]

    assert samples(one) == samples(many)


def test_a_database_that_is_away_is_told_and_the_rest_is_shown(shared: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import closing
    from pathlib import Path

    from service.store.session import Database

    with closing(Database(f"sqlite:///{Path('/dev/null/nowhere/epochd.sqlite3')}")) as away:
        (up,) = Census(away).collect()
    assert [sample.value for sample in up.samples] == [0]
