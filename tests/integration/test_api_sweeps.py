"""/sweeps over HTTP, on SQLite and PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.experiment import Status
from service.settings import Settings
from service.store import queue
from service.store.queue import Claim
from service.store.tables import ExperimentRow
from service.store.transitions import move
from tests.integration.conftest import Api, problem, serving

JSON = {"content-type": "application/json"}
NOBODY = "019304a2-7b1c-7d3e-8f00-0123456789ab"
GRID: dict[str, list[Any]] = {"activation": ["sigmoid", "relu"], "depth": [1, 2]}
FILES = ("a" * 64, "b" * 64)


def post(api: Api, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return api.post("/sweeps", json={"grid": GRID} | body, headers=headers)


def made(api: Api, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = post(api, **body).raise_for_status().json()
    return answer


def experiments(api: Api, sweep: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    path = sweep["links"]["experiments"]
    found: list[dict[str, Any]] = api.get(path, params=httpx.URL(path).params.merge(query)).json()["data"]
    return found


def claimed(api: Api) -> Claim:
    with api.ports.database.write() as session:
        found = queue.claim(session, owner="one", lease_seconds=60)
    assert found is not None
    return found


def succeed(api: Api) -> str:
    """Take the next experiment to success, with files that are there. Returns its id."""
    experiment_id = claimed(api).experiment_id
    keras, onnx = (api.ports.blobs.put(experiment_id, data + experiment_id.encode()) for data in (b"k", b"o"))
    with api.ports.database.write() as session:
        moved = move(
            session, Status.SUCCEEDED, ExperimentRow.id == experiment_id,
            test_loss=0.5, test_accuracy=0.9, parameters=9, weights_sha256="c" * 64,
            keras_sha256=keras, keras_bytes=1, onnx_sha256=onnx, onnx_bytes=1,
        )  # fmt: skip
        assert moved is not None
    return experiment_id


@pytest.fixture(scope="module")
def unchanged(empty_api: Api) -> Iterator[Api]:
    """An API that refuses whatever its tests send."""
    yield empty_api
    assert empty_api.get("/sweeps").json() == {"data": [], "next_cursor": None}


def test_a_new_sweep_is_queued_and_told_as_it_was_asked_for(api: Api) -> None:
    response = post(api, base={"epochs": 3}, seeds=2, name="article", tags=["a"])
    assert response.status_code == 202
    sweep = response.json()
    path = f"/sweeps/{sweep['id']}"
    assert response.headers["location"] == path
    assert response.headers["retry-after"] == "1"
    assert sweep["spec"] == {"base": {"epochs": 3}, "grid": GRID, "seeds": 2, "name": "article", "tags": ["a"]}
    assert (sweep["name"], sweep["status"], sweep["size"], sweep["finished_at"]) == ("article", "queued", 8, None)
    assert sweep["progress"] == {
        "queued": 8, "running": 0, "cancelling": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "done": 0, "total": 8,
    }  # fmt: skip
    assert sweep["links"] == {
        "self": path, "experiments": f"/experiments?sweep_id={sweep['id']}", "comparison": f"{path}/comparison",
        "cancel": f"{path}/cancel",
    }  # fmt: skip
    assert api.get(path).json() == sweep
    found = experiments(api, sweep, sort="created_at")
    assert [(one["spec"]["activation"], one["spec"]["depth"], one["spec"]["seed"]) for one in found] == [
        (activation, depth, seed) for activation in GRID["activation"] for depth in (1, 2) for seed in (0, 1)
    ]
    for one in found:
        assert (one["sweep_id"], one["spec"]["epochs"], one["spec"]["tags"]) == (sweep["id"], 3, ["a"])
    assert len(experiments(api, sweep, activation="relu", depth=2)) == 2


def test_a_dry_run_counts_and_stores_nothing(unchanged: Api) -> None:
    body = {"base": {"units": 4}, "grid": GRID, "seeds": 3}
    for _ in range(2):
        response = unchanged.post("/sweeps?dry_run=true", json=body, headers={"Idempotency-Key": "dry"})
        assert response.status_code == 200
        assert "location" not in response.headers
        plan = response.json()
        assert (plan["experiments"], plan["seeds"], plan["parameters"]) == (12, 3, 785 * 4 + 5 * 4 + 5 * 10)
        assert plan["arms"][1] == {"label": "sigmoid, depth 2", "values": {"activation": "sigmoid", "depth": 2}}
        assert [arm["label"] for arm in plan["arms"]] == [
            "sigmoid, depth 1", "sigmoid, depth 2", "relu, depth 1", "relu, depth 2",
        ]  # fmt: skip


def body(base: str = '{"activation": "relu", "depth": 1}', more: str = "") -> bytes:
    return f'{{"base": {base}{more}}}'.encode()


BAD: dict[str, tuple[bytes, str, str, str]] = {
    "nothing": (b"", "", "the body is missing", "invalid-request"),
    "a list": (b"[]", "", "must be a JSON object", "invalid-request"),
    "an empty object": (b"{}", "/base/activation", "in base, or its values in grid", "invalid-request"),
    "a list as base": (body("[]"), "/base", "must be a JSON object", "invalid-request"),
    "null as grid": (body(more=', "grid": null'), "/grid", "must be a JSON object", "invalid-request"),
    "an unknown field": (body(more=', "nope": 1'), "/nope", "no such field", "invalid-request"),
    "an unknown field below": (body(more=', "grid": {"a/b": [1]}'), "/grid/a~1b", "no such field", "invalid-request"),
    "a wrong value": (body('{"depth": 1}', ', "grid": {"activation": ["relu", "rleu"]}'), "/grid/activation/1",
                      "sigmoid", "invalid-request"),
    "a wrong end": (body(more=', "grid": {"units": {"start": 1, "stop": 1025}}'), "/grid/units/stop", "1024",
                    "invalid-request"),
    "a value twice": (body(more=', "grid": {"units": [1, 2, 1]}'), "/grid/units/2", "twice: 1", "invalid-request"),
    "a field twice": (body(more=', "grid": {"depth": [1]}'), "/grid/depth", "base has this field",
                      "invalid-request"),
    "seeds twice": (body(more=', "grid": {"seed": [1]}, "seeds": 2'), "/seeds", "grid has seed", "invalid-request"),
    "NaN": (body(more=', "grid": {"learning_rate": [NaN]}'), "/grid/learning_rate/0", "finite", "invalid-request"),
    "half a character": (body(more=', "grid": {"optimizer": ["\\ud800"]}'), "/grid/optimizer/0", "",
                         "invalid-request"),
    "NUL in the name": (body(more=', "name": "a\\u0000"'), "/name", "", "invalid-request"),
    "a large number": (body(more=', "seeds": ' + "1" * 400), "/seeds", "", "invalid-request"),
    "too many": (body(more=', "seeds": 10001'), "/seeds", "10,001 experiments, and at most 10,000", "sweep-too-large"),
    "far too many": (body(more=', "grid": {"seed": {"start": 0, "stop": 2147483647}}'), "/grid/seed", "2,147,483,648",
                     "sweep-too-large"),
    "a network too large": (body('{"activation": "relu", "units": 1024}', ', "grid": {"depth": [1, 64]}'),
                            "/base/units", "66,938,890", "spec-too-large"),
}  # fmt: skip


@pytest.mark.parametrize("dry", ["", "?dry_run=true"])
@pytest.mark.parametrize(("content", "pointer", "says", "kind"), BAD.values(), ids=BAD.keys())
def test_a_wrong_sweep_is_refused_whole_where_it_is_wrong(
    unchanged: Api, content: bytes, pointer: str, says: str, kind: str, dry: str
) -> None:
    found = problem(unchanged.post(f"/sweeps{dry}", content=content, headers=JSON), 422, kind)
    fault = found["errors"][0]
    assert (fault["pointer"], fault["location"]) == (pointer, "body")
    assert says in fault["message"]
    assert fault["message"] in found["detail"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("dry_run=perhaps", "/dry_run"), ("nope=1", "/nope"), ("dry_run=true&dry_run=false", "/dry_run")],
)
def test_a_wrong_query_is_refused(unchanged: Api, query: str, pointer: str) -> None:
    found = problem(unchanged.post(f"/sweeps?{query}", json={"grid": GRID}), 422)
    assert [(fault["pointer"], fault["location"]) for fault in found["errors"]] == [(pointer, "query")]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", f"cursor={NOBODY}%00", "cursor=", "sort=name"])
def test_a_wrong_page_is_refused(unchanged: Api, query: str) -> None:
    problem(unchanged.get(f"/sweeps?{query}"), 422)


@pytest.mark.parametrize("identity", [NOBODY, "x", "%00", "%ff", "a" * 5000, "-1"])
def test_an_id_that_no_sweep_has_is_not_found_on_every_path(unchanged: Api, identity: str) -> None:
    for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        problem(unchanged.request(method, f"/sweeps/{identity}{below}"), 404, "sweep-not-found")


def test_an_id_of_an_experiment_is_not_one_of_a_sweep(api: Api) -> None:
    one = experiments(api, made(api))[0]["id"]
    problem(api.get(f"/sweeps/{one}"), 404, "sweep-not-found")


def test_the_operator_says_how_large_a_sweep_may_be_and_how_many_wait(migrated_url: str, tmp_path: Path) -> None:
    limits = Settings(data_dir=tmp_path, database_url=migrated_url, max_sweep=8, max_queued=10, max_parameters=13_002)
    with serving(limits) as api:
        problem(post(api, seeds=3), 422, "sweep-too-large")
        problem(post(api, base={"units": 17}), 422, "spec-too-large")
        first = made(api, seeds=2)
        found = problem(post(api, "key"), 429, "queue-full")
        assert "8 experiments wait already" in found["detail"]
        assert "no room for 4 more" in found["detail"]
        assert post(api, grid={"activation": ["relu"]}, base={"depth": 1}).status_code == 202
        assert api.post("/sweeps?dry_run=true", json={"grid": GRID}).status_code == 200
        api.post(first["links"]["cancel"]).raise_for_status()
        assert post(api, "key").status_code == 202
        assert len(api.get("/sweeps").json()["data"]) == 3


def test_a_sweep_larger_than_the_queue_is_not_told_to_try_again(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, max_queued=3)) as api:
        found = problem(post(api), 422, "sweep-too-large")
        assert "4 experiments, and at most 3" in found["detail"]


def test_a_repeated_request_gets_the_first_answer_again(api: Api) -> None:
    first = post(api, "k", seeds=2)
    api.post(first.json()["links"]["cancel"]).raise_for_status()
    again = post(api, "k", grid={"depth": {"start": 1, "stop": 2}, "activation": GRID["activation"], "seed": [0, 1]})
    assert (again.status_code, again.content) == (202, first.content)
    for header in ("location", "retry-after", "content-type"):
        assert again.headers[header] == first.headers[header]
    problem(post(api, "k", seeds=3), 422, "idempotency-key-reused")
    single = api.post("/experiments", json={"activation": "relu", "depth": 1}, headers={"Idempotency-Key": "k"})
    problem(single, 422, "idempotency-key-reused")
    assert [one["id"] for one in api.get("/sweeps").json()["data"]] == [first.json()["id"]]


def test_of_equal_requests_at_once_one_makes_a_sweep(api: Api) -> None:
    for turn in range(3):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _, key: post(api, key, seeds=10), range(4), [f"k{turn}"] * 4))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        assert len(api.get("/sweeps").json()["data"]) == turn + 1
    assert len(api.get("/experiments?limit=200").json()["data"]) == 120


def test_sweeps_are_listed_newest_first(api: Api) -> None:
    names = [made(api, name=f"number {number}")["name"] for number in range(5)]
    assert [one["name"] for one in api.get("/sweeps").json()["data"]] == names[::-1]
    found: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = api.get("/sweeps", params={"limit": 2} | cursor).raise_for_status().json()
        found += [one["name"] for one in page["data"]]
        made(api, name="later")
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == names[::-1]


def test_cancelling_a_sweep(api: Api) -> None:
    sweep = made(api)
    succeed(api)
    taken = claimed(api)
    response = api.post(sweep["links"]["cancel"])
    assert (response.status_code, response.headers["location"]) == (202, sweep["links"]["self"])
    assert response.headers["retry-after"] == "1"
    now = response.json()
    assert now["status"] == "cancelling"
    assert (now["progress"]["cancelled"], now["progress"]["cancelling"], now["progress"]["done"]) == (2, 1, 3)
    assert api.post(sweep["links"]["cancel"]).json() == now
    with api.ports.database.write() as session:
        queue.give_back(session, taken)
    ended = api.get(sweep["links"]["self"]).json()
    assert (ended["status"], ended["progress"]["done"]) == ("finished", 4)
    assert datetime.fromisoformat(ended["finished_at"]) >= datetime.fromisoformat(ended["created_at"])
    assert api.post(sweep["links"]["cancel"]).json() == ended


def test_a_sweep_that_has_ended_by_itself_cannot_be_cancelled(api: Api) -> None:
    sweep = made(api)
    for _ in range(4):
        succeed(api)
    problem(api.post(sweep["links"]["cancel"]), 409, "sweep-already-finished")


def test_deleting_a_sweep_takes_its_experiments_and_their_files(api: Api) -> None:
    other, sweep = made(api), made(api, base={"priority": 1})
    one = succeed(api)
    problem(api.delete(sweep["links"]["self"]), 409, "sweep-not-finished")
    api.post(sweep["links"]["cancel"]).raise_for_status()
    api.put("/models/mine", json={"experiment_id": one}).raise_for_status()
    assert "mine" in problem(api.delete(sweep["links"]["self"]), 409, "experiment-has-alias")["detail"]
    assert len(api.ports.blobs.list()) == 2
    api.delete("/models/mine").raise_for_status()
    assert api.delete(sweep["links"]["self"]).status_code == 204
    assert api.ports.blobs.list() == []
    problem(api.get(sweep["links"]["self"]), 404, "sweep-not-found")
    problem(api.get(f"/experiments/{one}"), 404)
    assert experiments(api, sweep) == []
    assert len(experiments(api, other)) == 4


@pytest.mark.slow
def test_a_sweep_of_five_thousand_is_accepted(api: Api) -> None:
    sweep = made(api, seeds=1250)
    assert (sweep["size"], sweep["progress"]["queued"]) == (5000, 5000)
    assert api.post(sweep["links"]["cancel"]).json()["progress"]["cancelled"] == 5000
    assert api.delete(sweep["links"]["self"]).status_code == 204
    assert api.get("/experiments").json()["data"] == []
