"""What a whole service tells of itself: one /metrics of its processes, one trace of an experiment, logs as JSON; and
that dashboards, alerts and the guide name what there is.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.folder import VARIABLE
from tests.acceptance.conftest import DEADLINE_SECONDS, EPOCHD, Service, run, serving
from tests.http_servers import answering
from tests.trace_receiver import Receiver, Span

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PREDICTIONS = 20
NAME = re.compile(r"\bepochd_[a-z_]+[a-z]")


@dataclass(frozen=True)
class Observed:
    """What a service told while it trained an experiment and predicted with it."""

    experiment_id: str
    metrics: str
    spans: list[Span]
    log: list[dict[str, Any]]
    held_by_the_dead: list[str]
    folder_is_left: bool


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observe")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "mnist.npz").hardlink_to(mnist_dir / "mnist.npz")
    receiver = Receiver()
    with answering(receiver.server):
        yield _observe(folder, receiver)


def _observe(folder: Path, receiver: Receiver) -> Observed:
    environment = {
        "EPOCHD_LOG_LEVEL": "info",
        "EPOCHD_LOG_FORMAT": "json",
        "EPOCHD_ACCESS_LOG": "true",
        "EPOCHD_OTEL": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with serving(folder, "--processes", "2", **environment) as service:
        lines: list[str] = []
        assert service.process.stderr is not None
        reading = threading.Thread(target=lines.extend, args=[service.process.stderr])
        reading.start()  # a pipe that is full would hold whoever writes to it
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "queues-it"}
        spec = {"activation": "relu", "depth": 1, "epochs": 2}
        made = service.http.post("/experiments", json=spec, headers=headers).raise_for_status().json()
        service.succeeded(made["id"])
        for _ in range(PREDICTIONS):  # each connection is taken by either process
            httpx.post(f"{service.url}/predict", json={"image": [0.5] * 784}, timeout=30).raise_for_status()
        until(lambda: value(service, "epochd_predicted_images_total") == PREDICTIONS)
        until(lambda: {"attempt", "training"} <= {span.name for span in receiver.spans if span.trace == TRACE})
        metrics = service.http.get("/metrics").text
        shared, dead = _lose_a_process(service)
        # Not to the whole group: the process that was just started anew would write a traceback of its own.
        service.process.send_signal(signal.SIGINT)
        service.process.wait(DEADLINE_SECONDS)
        reading.join()
    return Observed(
        experiment_id=made["id"],
        metrics=metrics,
        spans=list(receiver.spans),
        log=[json.loads(line) for line in lines],
        held_by_the_dead=dead,
        folder_is_left=shared.exists(),
    )


def _lose_a_process(service: Service) -> tuple[Path, list[str]]:
    """Kill the further API process. Returns the shared folder, and what it holds of that process for the living."""
    other = next(one for one in service.processes() if "--listener-fd" in one.cmdline())
    shared = Path(other.environ()[VARIABLE])
    before = {one.pid for one in service.processes()}
    other.send_signal(signal.SIGKILL)
    until(lambda: any(one.pid not in before and "--listener-fd" in _command(one) for one in service.processes()))
    return shared, [path.name for path in shared.glob(f"gauge_live*_{other.pid}.db")]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def value(service: Service, name: str) -> float | None:
    return next((v for sample, _, v in samples(service.http.get("/metrics").text) if sample == name), None)


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples]


def of(observed: Observed, name: str, **labels: str) -> float:
    found = [
        v for sample, having, v in samples(observed.metrics) if sample == name and labels.items() <= having.items()
    ]
    return sum(found)


def test_all_processes_of_a_service_are_on_one_page(observed: Observed) -> None:
    assert of(observed, "epochd_predicted_images_total") == PREDICTIONS
    assert of(observed, "epochd_http_request_duration_seconds_count", route="/predict", status="200") == PREDICTIONS
    assert of(observed, "epochd_attempts_begun_total") == 1
    assert of(observed, "epochd_attempts_ended_total", outcome="succeeded") == 1
    assert of(observed, "epochd_epochs_total") == 2
    assert of(observed, "epochd_training_seconds_total") > 0
    assert of(observed, "epochd_trainers_started_total") == 1
    assert of(observed, "epochd_trainer_deaths_total") == 0
    assert of(observed, "epochd_workers", status="active") == 1


def test_what_a_dead_process_held_is_forgotten_and_nothing_is_left_behind(observed: Observed) -> None:
    assert observed.held_by_the_dead == []
    assert not observed.folder_is_left


def test_a_trace_goes_from_the_request_to_the_trainer(observed: Observed) -> None:
    found = {span.name: span for span in observed.spans if span.trace == TRACE}
    request, queue = found["POST /experiments"], found["queue"]
    attempt, training = found["attempt"], found["training"]
    assert (request.part, request.parent) == ("api", PARENT)
    assert request.attributes["http.route"] == "/experiments"
    assert request.attributes["http.response.status_code"] == 202
    assert (queue.part, queue.parent) == (attempt.part, attempt.parent) == ("worker", request.id)
    assert attempt.attributes["epochd.experiment_id"] == observed.experiment_id
    assert attempt.attributes["epochd.outcome"] == "succeeded"
    assert (training.part, training.parent) == ("trainer", attempt.id)
    assert training.events == ["epoch", "epoch"]
    puts = [span for span in observed.spans if span.name == "blob put" and span.trace == TRACE]
    assert {span.parent for span in puts} == {attempt.id}


def test_every_line_is_json_and_says_what_it_is_about(observed: Observed) -> None:
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in observed.log)
    (queued,) = [line for line in observed.log if line.get("request_id") == "queues-it"]
    assert (queued["method"], queued["route"], queued["status"]) == ("POST", "/experiments", 202)
    of_worker = [line for line in observed.log if line.get("experiment_id") == observed.experiment_id]
    assert [line["event"].rsplit(": ", 1)[1] for line in of_worker] == ["begins", "succeeded"]
    assert all(line["attempt"] == 1 and line["worker_id"] for line in of_worker)


def test_a_worker_alone_shows_its_own_metrics(tmp_path: Path) -> None:
    with httpx.Client() as client:
        port = _free_port()
        process = subprocess.Popen(
            [EPOCHD, "worker", "--data-dir", str(tmp_path)],
            env=os.environ | {"EPOCHD_METRICS_PORT": str(port), "EPOCHD_SLOTS": "1", "EPOCHD_LOG_LEVEL": "error"},
            stdin=subprocess.DEVNULL,
        )
        try:
            found = ""

            def shown() -> bool:
                nonlocal found
                assert process.poll() is None
                try:
                    found = client.get(f"http://127.0.0.1:{port}/metrics").text
                except httpx.TransportError:
                    return False
                return "epochd_trainers_started_total 1.0" in found

            until(shown)
            assert 'epochd_attempts_ended_total{outcome="failed"} 0.0' in found
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_SECONDS) == 0


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        port = str(taken.server_port)
        done = run("worker", "--data-dir", str(tmp_path), cwd=tmp_path, EPOCHD_METRICS_PORT=port)
    assert done.returncode == 1
    assert f"cannot show metrics on 127.0.0.1 port {port}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def _free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        return int(probe.server_port)


# What names metrics.


def families(observed: Observed) -> set[str]:
    """The names that there are, as they are written in queries."""
    found = {sample for sample, _, _ in samples(observed.metrics)}
    return {name for name in found if not name.endswith("_created")}


@pytest.mark.parametrize(
    "path",
    [PROMETHEUS / "alerts.yml", PROMETHEUS / "alerts.test.yml", ROOT / "deploy/grafana/dashboards/epochd.json"],
    ids=lambda path: path.name,
)
def test_alerts_and_dashboards_name_metrics_that_there_are(path: Path, observed: Observed) -> None:
    named = set(NAME.findall(path.read_text(encoding="utf-8")))
    assert named
    assert named - families(observed) == set()


def test_the_guide_lists_exactly_the_metrics_there_are(observed: Observed) -> None:
    text = (ROOT / "docs" / "guide-observe.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(epochd_[a-z_]+)` \|", text, re.MULTILINE)
    assert len(set(listed)) == len(listed)
    there = {re.sub(r"_(bucket|count|sum)$", "", name) for name in families(observed)}
    assert set(listed) == there


def test_the_guide_lists_exactly_the_alerts_there_are() -> None:
    text = (ROOT / "docs" / "guide-observe.md").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    assert re.findall(r"^\| `(Epochd\w+)` \|", text, re.MULTILINE) == alerts


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: Debian has it in the package prometheus")
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")], ids=" ".join
)
def test_prometheus_takes_its_configuration_and_the_rules_do_what_they_should(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    assert PROMTOOL is not None
    folder = shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    (folder / "api-key").touch()  # the operator's, and looked for by promtool
    done = subprocess.run([PROMTOOL, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_rules_try_every_alert() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")))
    tried = set(re.findall(r"alertname: (\w+)", (PROMETHEUS / "alerts.test.yml").read_text(encoding="utf-8")))
    assert alerts == tried
