"""GET /experiments/{id}/events: what happens, as it happens, without loss or repeat."""

import json
import math
import queue as queues
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import sqlalchemy.event

from service.domain.events import Trained
from service.domain.experiment import EpochMetrics
from service.settings import Settings
from service.store import experiments, queue
from service.store.queue import Claim, ModelFiles
from tests.conftest import succeed
from tests.integration.conftest import Api, out_of_reach, problem, serving

pytestmark = pytest.mark.slow


class Event(NamedTuple):
    """One server-sent event."""

    id: int
    type: str
    data: Any


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    """Events of a stream, after the HTML standard, 9.2.6."""
    fields: dict[str, str] = {}
    for line in lines:
        if line == "" and fields:
            yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
    assert not fields


def read(api: Api, experiment_id: str, after: int | None = None) -> list[Event]:
    """All events until the server closes the stream."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with api.stream("GET", f"/experiments/{experiment_id}/events", headers=headers) as response:
        assert response.status_code == 200
        return list(parsed(response.iter_lines()))


@contextmanager
def following(api: Api, experiment_id: str) -> Iterator[Callable[[], Event | None]]:
    """A stream that is read beside the test. Gives what waits for its next event, or for None at its end."""
    seen: queues.Queue[Event | None] = queues.Queue()

    def follow() -> None:
        with (
            httpx.Client(base_url=api.base_url, timeout=30) as client,
            client.stream("GET", f"/experiments/{experiment_id}/events") as response,
        ):
            for event in parsed(response.iter_lines()):
                seen.put(event)
        seen.put(None)

    thread = threading.Thread(target=follow)
    thread.start()
    yield lambda: seen.get(timeout=30)
    thread.join()


def create(api: Api) -> str:
    return str(api.post("/experiments", json={"activation": "relu", "depth": 1, "epochs": 3}).json()["id"])


def claim(api: Api) -> Claim:
    with api.ports.database.write() as session:
        claimed = queue.claim(session, owner="test", lease_seconds=60)
    assert claimed is not None
    return claimed


def record(api: Api, claimed: Claim, epoch: int, loss: float = 0.5) -> None:
    metrics = EpochMetrics(
        epoch=epoch, loss=loss, accuracy=0.5, val_loss=0.4, val_accuracy=0.6, seconds=1.5, gradient_norms=(loss, 0.1)
    )
    with api.ports.database.write() as session:
        queue.record_epoch(session, claimed, metrics)


def finish(api: Api, claimed: Claim) -> None:
    trained = Trained(
        experiment_id="unused", test_loss=0.4, test_accuracy=0.6, evaluation_seconds=0.5, parameters=1,
        weights_sha256="0" * 64, keras=b"", onnx=b"",
    )  # fmt: skip
    with api.ports.database.write() as session:
        queue.finish(session, claimed, trained, ModelFiles(keras_sha256="0" * 64, onnx_sha256="0" * 64))


def test_events_come_as_they_happen_and_done_is_the_last(api: Api) -> None:
    identity = create(api)
    with following(api, identity) as next_event:
        assert next_event() == Event(1, "status", {"status": "queued", "attempt": 0})
        claimed = claim(api)
        assert next_event() == Event(2, "status", {"status": "running", "attempt": 1})
        for epoch in (1, 2, 3):
            record(api, claimed, epoch)
            event = next_event()
            assert event is not None
            assert (event.id, event.type, event.data["epoch"]) == (epoch + 2, "epoch", epoch)
            assert event.data == api.get(f"/experiments/{identity}/metrics").json()["epochs"][epoch - 1]
        finish(api, claimed)
        assert next_event() == Event(6, "status", {"status": "succeeded", "attempt": 1})
        result = {"test_loss": 0.4, "test_accuracy": 0.6, "computation_seconds": 5.0}
        assert next_event() == Event(7, "done", {"status": "succeeded", "result": result, "error": None})
        assert next_event() is None


def test_the_stream_is_one_that_browsers_and_proxies_take(sqlite_api: Api, tiny_onnx: bytes) -> None:
    identity = succeed(sqlite_api.ports.database, sqlite_api.ports.blobs, tiny_onnx).id
    response = sqlite_api.get(f"/experiments/{identity}/events", headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"


@pytest.fixture
def ended(api: Api) -> str:
    """An experiment that was given back once, and has succeeded."""
    identity = create(api)
    first = claim(api)
    record(api, first, 1)
    with api.ports.database.write() as session:
        queue.give_back(session, first)
    second = claim(api)
    for epoch in (1, 2, 3):  # the first again, as resumed training may
        record(api, second, epoch)
    finish(api, second)
    return identity


def test_a_client_that_comes_back_misses_nothing_and_sees_nothing_twice(api: Api, ended: str) -> None:
    whole = read(api, ended)
    assert [event.id for event in whole] == list(range(1, len(whole) + 1))
    assert [event.data["epoch"] for event in whole if event.type == "epoch"] == [1, 2, 3]
    statuses = [event.data["status"] for event in whole if event.type == "status"]
    assert statuses == ["queued", "running", "queued", "running", "succeeded"]
    assert whole[3].data["reason"] == "drained"
    assert whole[-1].type == "done"
    assert [event.type for event in whole].count("done") == 1
    for after in range(len(whole) + 1):
        assert read(api, ended, after) == whole[after:]


def test_a_client_that_has_read_all_of_an_ended_experiment_is_not_kept_waiting(api: Api, ended: str) -> None:
    for after in (len(read(api, ended)), 1000, 2**31 - 1):
        assert read(api, ended, after) == []


def test_a_stream_may_be_left_and_taken_up_while_training_goes_on(api: Api) -> None:
    identity = create(api)
    claimed = claim(api)
    record(api, claimed, 1)
    with api.stream("GET", f"/experiments/{identity}/events") as response:
        events = parsed(response.iter_lines())
        seen = [next(events) for _ in range(3)]
    record(api, claimed, 2)
    finish(api, claimed)
    seen += read(api, identity, after=seen[-1].id)
    assert [event.id for event in seen] == [1, 2, 3, 4, 5, 6]
    assert seen == read(api, identity)


def test_many_may_follow_one_experiment(api: Api) -> None:
    identity = create(api)
    with following(api, identity) as one, following(api, identity) as other:
        for next_event in (one, other):
            assert next_event() == Event(1, "status", {"status": "queued", "attempt": 0})
        api.post(f"/experiments/{identity}/cancel").raise_for_status()
        for next_event in (one, other):
            assert next_event() == Event(2, "status", {"status": "cancelled", "attempt": 0})
            assert next_event() == Event(3, "done", {"status": "cancelled", "result": None, "error": None})
            assert next_event() is None


def test_a_failure_is_told_with_its_reason(api: Api) -> None:
    identity = create(api)
    claimed = claim(api)
    record(api, claimed, 1, loss=math.nan)
    with api.ports.database.write() as session:
        queue.fail(session, claimed, "training_diverged", 'the loss\nbecame "nan" 🙂')
    *_, epoch, status, done = read(api, identity)
    assert epoch.data["loss"] is None
    assert epoch.data["gradient_norms"] == [None, 0.1]
    assert status.data["status"] == "failed"
    assert done.data["error"] == {"code": "training_diverged", "message": 'the loss\nbecame "nan" 🙂'}


def test_there_is_no_stream_of_nothing(empty_api: Api) -> None:
    response = empty_api.get("/experiments/019304a2-7b1c-7d3e-8f00-0123456789ab/events")
    problem(response, 404, "experiment-not-found")


@pytest.mark.parametrize("last", ["x", "-1", "1.5", str(2**31), "9" * 5000, "", "1, 2"])
def test_a_last_event_that_no_stream_has_is_refused(sqlite_api: Api, last: str) -> None:
    response = sqlite_api.get(f"/experiments/{create(sqlite_api)}/events", headers={"Last-Event-ID": last})
    found = problem(response, 422, "invalid-request")["errors"][0]
    assert (found["location"], found["pointer"]) == ("header", "/last-event-id")


def test_an_experiment_that_is_deleted_while_it_is_followed_is_told_to_be(api: Api) -> None:
    identity = create(api)
    with following(api, identity) as next_event:
        assert next_event() == Event(1, "status", {"status": "queued", "attempt": 0})
        with api.ports.database.write() as session:  # at once, so that no look comes between
            experiments.cancel(session, identity)
            experiments.delete_finished(session, identity)
        assert next_event() == Event(1, "deleted", {"id": identity})
        assert next_event() is None


def test_a_stream_waits_while_the_database_is_away(postgres_url: str, tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, database_url=postgres_url)) as api:
        identity = create(api)
        with following(api, identity) as next_event:
            assert next_event() == Event(1, "status", {"status": "queued", "attempt": 0})
            with out_of_reach(postgres_url):
                problem(api.get("/experiments"), 503, "unavailable")
                problem(api.get("/health/ready"), 503, "unavailable")
            api.post(f"/experiments/{identity}/cancel").raise_for_status()
            told = [next_event(), next_event()]
            assert [event and event.type for event in told] == ["status", "done"]
            assert next_event() is None


def test_an_experiment_that_is_deleted_after_its_end_ends_the_stream(api: Api) -> None:
    identity = create(api)
    api.post(f"/experiments/{identity}/cancel").raise_for_status()
    with api.stream("GET", f"/experiments/{identity}/events", headers={"Last-Event-ID": "1"}) as response:
        api.delete(f"/experiments/{identity}").raise_for_status()
        assert [event.type for event in parsed(response.iter_lines())] in (["deleted"], ["status", "done"])


def test_head_of_a_stream_is_its_head_alone(sqlite_api: Api) -> None:
    path = f"/experiments/{create(sqlite_api)}/events"
    for headers in ({}, {"Last-Event-ID": "1"}):
        head = sqlite_api.head(path, headers=headers)
        assert (head.status_code, head.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
        assert sqlite_api.get("/health/live").status_code == 200  # on the same connection, which is free again


def test_a_server_that_stops_ends_open_streams(tmp_path: Path) -> None:
    with ExitStack() as server:
        api = server.enter_context(serving(Settings(data_dir=tmp_path)))
        with following(api, create(api)) as next_event:
            assert next_event() == Event(1, "status", {"status": "queued", "attempt": 0})
            server.close()
            assert next_event() is None


def test_many_streams_that_wait_are_one_look_for_all(migrated_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", database_url=migrated_url, poll_seconds=0.25)
    with serving(settings) as api, ExitStack() as open_:
        ids = [create(api) for _ in range(8)]
        streams = [open_.enter_context(following(api, one)) for one in ids]
        for next_event in streams:
            assert next_event() is not None
        asked: list[str] = []

        @sqlalchemy.event.listens_for(api.ports.database.engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            asked.append(statement)

        threading.Event().wait(1)
        assert 1 <= len(asked) <= 30, asked  # each by itself would ask three times every quarter of a second: 96
        for one in ids:
            assert api.post(f"/experiments/{one}/cancel").is_success
        for next_event in streams:
            told = [next_event() for _ in range(3)]
            assert [event and event.type for event in told] == ["status", "done", None]


def test_one_caller_may_have_so_many_streams_and_gets_each_place_back(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, max_streams_per_caller=2)) as api:
        path = f"/experiments/{create(api)}/events"

        def opened(streams: ExitStack) -> None:
            while streams.enter_context(api.stream("GET", path)).status_code == 429:
                pass  # the server has not noticed yet that those before are gone

        for _ in range(3):
            with ExitStack() as streams:
                opened(streams)
                opened(streams)
                refused = api.get(path)
                assert "2 event streams open" in problem(refused, 429, "rate-limited")["detail"]
                assert refused.headers["retry-after"] == "10"
                assert api.get("/experiments").status_code == 200
