"""What every request has, whatever becomes of it: an id, a trace, a line in the log, and a part of the metrics."""

import logging
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from service.settings import Settings
from service.store.tables import ExperimentRow
from service.telemetry import logs
from tests.integration.conftest import Api, problem, serving

SPEC = {"activation": "relu", "depth": 1}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("requests"), max_body_bytes=2048, access_log=True)) as api:
        yield api


def test_an_id_that_is_sent_comes_back(shared: Api) -> None:
    answer = shared.get("/health/live", headers={"X-Request-ID": "mine,42"})
    assert answer.headers.get_list("x-request-id") == ["mine,42"]


@pytest.mark.parametrize("given", [b"a" * 129, b"caf\xe9", b"tab\tbed", b"two words"])
def test_an_id_that_is_not_well_formed_is_replaced(shared: Api, given: bytes) -> None:
    answer = shared.get("/health/live", headers=[(b"X-Request-ID", given)])
    assert re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]+", answer.headers["x-request-id"])


def test_ids_that_are_made_differ(shared: Api) -> None:
    made = {shared.get("/health/live").headers["x-request-id"] for _ in range(5)}
    assert len(made) == 5


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", b"", 404),
        ("PUT", "/experiments", b"", 405),
        ("POST", "/experiments", b"{}", 422),
        ("POST", "/sweeps", b"x" * 4096, 413),
        ("HEAD", "/experiments/none", b"", 404),
    ],
)
def test_a_refusal_has_the_id_in_its_head_and_in_its_body(
    shared: Api, method: str, path: str, body: bytes, status: int
) -> None:
    headers = {"X-Request-ID": "refused", "Content-Type": "application/json"}
    answer = shared.request(method, path, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-request-id"] == "refused"
    if method != "HEAD":
        assert problem(answer, status)["request_id"] == "refused"


def test_an_unexpected_error_has_it_too_and_so_has_its_line_in_the_log(
    shared: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.store.workers.every", None)  # whatever calls it fails
    seen: list[str] = []
    formatter = logs._Formatter("json", None)

    class Written(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(formatter.format(record))

    handler = Written()
    logging.getLogger("epochd.api").addHandler(handler)
    try:
        answer = shared.get("/workers", headers={"X-Request-ID": "broken"})
    finally:
        logging.getLogger("epochd.api").removeHandler(handler)
    assert problem(answer, 500)["request_id"] == "broken"
    assert '"request_id": "broken"' in "".join(seen)


def test_a_request_has_a_line_with_its_route_and_without_its_query(
    shared: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="epochd.access"):
        shared.get("/experiments/00000000-0000-7000-8000-000000000000?token=hidden")
        shared.get("/health/live")  # on the same connection: what came before is told by then
    lines = [record for record in caplog.records if record.name == "epochd.access"]
    line = lines[0]
    assert line.getMessage().startswith("GET /experiments/{experiment_id} 404 in ")
    assert "hidden" not in line.getMessage()
    assert (line.method, line.route, line.status) == ("GET", "/experiments/{experiment_id}", 404)  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/experiments", "/sweeps"])
def test_what_a_request_queues_keeps_the_trace_it_was_sent_under(shared: Api, path: str) -> None:
    body = SPEC if path == "/experiments" else {"base": SPEC, "seeds": 2}
    made = shared.post(path, json=body, headers={"traceparent": PARENT}).raise_for_status().json()
    column = ExperimentRow.id if path == "/experiments" else ExperimentRow.sweep_id
    with shared.ports.database.read() as session:
        found = session.scalars(select(ExperimentRow.trace_context).where(column == made["id"])).all()
    assert set(found) == {PARENT}


@pytest.mark.parametrize(
    "given", ["", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT.upper(), "x" * 500, "ff" + PARENT[2:]]
)
def test_a_trace_that_is_not_well_formed_is_ignored(shared: Api, given: str) -> None:
    made = shared.post("/experiments", json=SPEC, headers={"traceparent": given}).raise_for_status().json()
    with shared.ports.database.read() as session:
        row = session.get(ExperimentRow, made["id"])
        assert row is not None
        assert row.trace_context is None
