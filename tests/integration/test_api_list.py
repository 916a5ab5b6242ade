"""GET /experiments: filters, orders, and pages that stay right while experiments are added."""

import base64
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import update

from service.domain.experiment import Spec
from service.store import experiments
from service.store.tables import ExperimentRow
from tests.conftest import succeed
from tests.integration.conftest import Api

SORTS = ["created_at", "-created_at", "test_accuracy", "-test_accuracy"]


def add(api: Api, **spec: Any) -> str:
    """Queue an experiment, behind the API's back as a sweep would, and return its id."""
    with api.ports.database.write() as session:
        return experiments.create(session, Spec.model_validate({"activation": "relu", "depth": 1} | spec)).id


def ids(api: Api, **query: Any) -> list[str]:
    response = api.get("/experiments", params=query)
    response.raise_for_status()
    return [experiment["id"] for experiment in response.json()["data"]]


def pages(api: Api, **query: Any) -> Iterator[list[str]]:
    cursor = None
    while True:
        page = api.get("/experiments", params=query | ({"cursor": cursor} if cursor else {})).raise_for_status().json()
        yield [experiment["id"] for experiment in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return


@pytest.fixture
def mixed(api: Api, tiny_onnx: bytes) -> list[dict[str, Any]]:
    """Experiments of which some have an accuracy, some the same one, some were made at the same moment: one without
    a fraction of a second, which JSON leaves out.
    """
    for accuracy in (0.5, 0.9, 0.9, 0.1, 0.9, 1.0, 0.0):
        add(api)
        succeed(api.ports.database, api.ports.blobs, tiny_onnx, accuracy=accuracy)
    with api.ports.database.write() as session:
        rows = session.query(ExperimentRow).order_by(ExperimentRow.id).all()
        moments = [row.created_at for row in rows]
        moments[3] = moments[3].replace(microsecond=0)
        for row, moment in zip(rows, moments[3:] + [moments[3]] * 3, strict=True):
            session.execute(update(ExperimentRow).where(ExperimentRow.id == row.id).values(created_at=moment))
    return list(api.get("/experiments", params={"limit": 200}).json()["data"])


def in_order(found: list[dict[str, Any]], sort: str) -> list[str]:
    def key(experiment: dict[str, Any]) -> tuple[Any, str]:
        if sort.endswith("created_at"):
            # Not the text: that of a whole second has no fraction, and would stand behind the moments after it.
            return datetime.fromisoformat(experiment["created_at"]), experiment["id"]
        return experiment["result"]["test_accuracy"], experiment["id"]

    descending = sort.startswith("-")
    with_value = [one for one in found if sort.endswith("created_at") or one["result"]]
    without = sorted((one["id"] for one in found if one not in with_value), reverse=descending)
    return [one["id"] for one in sorted(with_value, key=key, reverse=descending)] + without


@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_every_size_are_the_whole_in_order(api: Api, mixed: list[dict[str, Any]], sort: str) -> None:
    expected = in_order(mixed, sort)
    assert ids(api, sort=sort) == expected
    for limit in (1, 2, 3, 7, 13, 14, 15):
        found = list(pages(api, sort=sort, limit=limit))
        assert [one for page in found for one in page] == expected
        assert all(len(page) == limit for page in found[:-1])
        assert found[-1]


@pytest.mark.parametrize("sort", SORTS)
def test_nothing_is_lost_or_repeated_while_experiments_are_added(
    api: Api, mixed: list[dict[str, Any]], sort: str, tiny_onnx: bytes
) -> None:
    expected = in_order(mixed, sort)
    seen: list[str] = []
    for page in pages(api, sort=sort, limit=3):
        seen += page
        if len(seen) <= len(expected):
            add(api)
            succeed(api.ports.database, api.ports.blobs, tiny_onnx, accuracy=0.9)
    assert len(seen) == len(set(seen))
    assert [one for one in seen if one in expected] == expected


def test_the_newest_come_first_by_default(api: Api) -> None:
    made = [add(api) for _ in range(60)]
    assert ids(api) == made[::-1][:50]


@pytest.fixture
def varied(api: Api, tiny_onnx: bytes) -> dict[str, str]:
    """Experiments by a name that says how they differ."""
    made = {
        "relu 1": add(api, tags=["a", "b", "b"]),
        "tanh 1": add(api, activation="tanh", tags=["b"]),
        "tanh 2": add(api, activation="tanh", depth=2, tags=["a", "b", "c"]),
        "fashion": add(api, dataset="fashion_mnist", depth=2, tags=["ü%_'"]),
    }
    made["done"] = succeed(api.ports.database, api.ports.blobs, tiny_onnx).id
    made["cancelled"] = add(api, depth=64)
    api.post(f"/experiments/{made['cancelled']}/cancel").raise_for_status()
    return made


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"status": "queued"}, {"relu 1", "tanh 1", "tanh 2", "fashion"}),
    ({"status": ["succeeded", "cancelled"]}, {"done", "cancelled"}),
    ({"status": ["running", "failed", "cancelling"]}, set()),
    ({"activation": "tanh"}, {"tanh 1", "tanh 2"}),
    ({"activation": ["tanh", "relu"]}, {"relu 1", "tanh 1", "tanh 2", "fashion", "done", "cancelled"}),
    ({"activation": ["tanh", "tanh"]}, {"tanh 1", "tanh 2"}),
    ({"activation": "mish"}, set()),
    ({"depth": 2}, {"tanh 2", "fashion"}),
    ({"depth": [2, 64]}, {"tanh 2", "fashion", "cancelled"}),
    ({"dataset": "fashion_mnist"}, {"fashion"}),
    ({"dataset": ["mnist", "fashion_mnist"], "depth": 2}, {"tanh 2", "fashion"}),
    ({"tag": "a"}, {"relu 1", "tanh 2"}),
    ({"tag": ["a", "b"]}, {"relu 1", "tanh 2"}),
    ({"tag": ["a", "c"]}, {"tanh 2"}),
    ({"tag": ["b", "b"]}, {"relu 1", "tanh 1", "tanh 2"}),
    ({"tag": ["a", "nobody's"]}, set()),
    ({"tag": "ü%_'"}, {"fashion"}),
    ({"tag": "%"}, set()),
    ({"sweep_id": "019304a2-7b1c-7d3e-8f00-0123456789ab"}, set()),
    ({"activation": "tanh", "depth": 2, "status": "queued", "tag": "c", "dataset": "mnist"}, {"tanh 2"}),
    ({"activation": "tanh", "depth": 2, "status": "succeeded"}, set()),
]


def test_filters_narrow_and_combine(api: Api, varied: dict[str, str], subtests: pytest.Subtests) -> None:
    names = {identity: name for name, identity in varied.items()}
    for query, expected in FILTERS:
        with subtests.test(**query):
            assert {names[one] for one in ids(api, **query)} == expected
            by_page = pages(api, limit=1, sort="test_accuracy", **query)
            assert {names[one] for page in by_page for one in page} == expected


def test_a_sweeps_experiments_are_found_by_its_id(api: Api) -> None:
    mine, _ = add(api), add(api)
    sweep = "019304a2-7b1c-7d3e-8f00-0123456789ab"
    with api.ports.database.write() as session:
        session.execute(update(ExperimentRow).where(ExperimentRow.id == mine).values(sweep_id=sweep))
    assert ids(api, sweep_id=sweep) == ids(api, sweep_id=sweep.upper()) == [mine]


def test_the_bounds_of_limit_are_accepted(api: Api) -> None:
    made = [add(api) for _ in range(201)]
    assert ids(api, limit=1) == made[:-2:-1]
    assert ids(api, limit=200) == made[:0:-1]


def forged(*parts: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


MOMENT, SOME_ID = "2026-01-01T00:00:00+00:00", "019304a2-7b1c-7d3e-8f00-0123456789ab"
CURSORS = {
    "garbage": "garbage",
    "no base64": "!!!!",
    "one letter": "a",
    "no list": base64.urlsafe_b64encode(b"7").decode(),
    "not three": forged("-created_at", MOMENT),
    "four": forged("-created_at", MOMENT, SOME_ID, 1),
    "no moment": forged("-created_at", "yesterday", SOME_ID),
    "no zone": forged("-created_at", "2026-01-01T00:00:00", SOME_ID),
    "a number": forged("-created_at", 7, SOME_ID),
    "nothing": forged("-created_at", None, SOME_ID),
    "no id": forged("-created_at", MOMENT, None),
    "a NUL": forged("-created_at", MOMENT, "\0"),
    "another order": forged("created_at", MOMENT, SOME_ID),
    "accuracy's": forged("-test_accuracy", 0.5, SOME_ID),
    "too long": "a" * 501,
    "empty": "",
    "not ASCII": "ü",
}


@pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS.keys())
def test_a_cursor_that_this_list_did_not_give_is_refused(empty_api: Api, cursor: str) -> None:
    response = empty_api.get("/experiments", params={"cursor": cursor})
    assert response.status_code == 422
    fault = response.json()["errors"][0]
    assert (fault["pointer"], fault["location"]) == ("/cursor", "query")


@pytest.mark.parametrize("value", ["high", True, [1], 5, "NaN"])
def test_a_cursor_with_no_accuracy_in_it_is_refused(empty_api: Api, value: object) -> None:
    cursor = forged("test_accuracy", value, SOME_ID)
    response = empty_api.get("/experiments", params={"sort": "test_accuracy", "cursor": cursor})
    assert response.status_code == 422


def test_a_cursor_belongs_to_its_order(api: Api) -> None:
    for _ in range(3):
        add(api)
    for sort in SORTS:
        cursor = api.get("/experiments", params={"sort": sort, "limit": 1}).json()["next_cursor"]
        for other in SORTS:
            response = api.get("/experiments", params={"sort": other, "cursor": cursor})
            assert response.status_code == (200 if other == sort else 422)


def test_a_moment_at_the_end_of_time_is_no_accident(api: Api) -> None:
    for moment in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z"):
        response = api.get("/experiments", params={"cursor": forged("-created_at", moment, SOME_ID)})
        assert response.status_code in {200, 422}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=-1", "limit=1.5", "limit=x", "limit=", "limit=1&limit=2", "sort=name",
     "sort=created_at&sort=created_at", "status=done", "status=", "activation=RELU", "depth=0", "depth=65",
     "depth=x", "dataset=cifar10", "tag=", "tag=%00", "tag=" + "a" * 65, "sweep_id=x", "nope=1", "Limit=5",
     "limit=" + "9" * 5000],
)  # fmt: skip
def test_a_query_that_cannot_be_meant_is_refused_where_it_is_wrong(empty_api: Api, query: str) -> None:
    response = empty_api.get(f"/experiments?{query}")
    assert response.status_code == 422
    fault = response.json()["errors"][0]
    assert fault["location"] == "query"
    assert fault["pointer"].split("/")[1] == query.split("=")[0]
