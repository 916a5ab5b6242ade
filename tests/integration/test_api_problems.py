"""Bad requests: each gets a problem that says what is wrong and where, and changes nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from service.store import experiments, listing
from tests.integration.conftest import Api, problem

JSON = {"content-type": "application/json"}
NOBODY = "019304a2-7b1c-7d3e-8f00-0123456789ab"


class Bad(NamedTuple):
    """A body of POST /experiments, and what is wrong with it."""

    body: bytes
    pointer: str
    says: str = ""
    kind: str = "invalid-request"


def with_(field: str, value: str) -> bytes:
    return f'{{"activation": "relu", "depth": 1, "{field}": {value}}}'.encode()


BODIES = {
    "nothing": Bad(b"", "", "the body is missing"),
    "spaces": Bad(b"  ", "", "no valid JSON"),
    "half": Bad(b'{"activation": "relu"', "", "no valid JSON"),
    "single quotes": Bad(b"{'activation': 'relu'}", "", "no valid JSON"),
    "two values": Bad(b"{}{}", "", "no valid JSON"),
    "a list": Bad(b"[]", "", "must be a JSON object"),
    "null": Bad(b"null", "", "must be a JSON object"),
    "a number": Bad(b"7", "", "must be a JSON object"),
    "no UTF-8": Bad(with_("name", '"?"').replace(b"?", b"\xff"), "", "UTF-8"),
    "deep lists": Bad(b"[" * 100_000, "", "nested too deeply"),
    "deep objects": Bad(b'{"a":' * 100_000, "", "nested too deeply"),
    "a number of 5,000 digits": Bad(with_("seed", "1" * 5000), "", "too many digits"),
    "a large number": Bad(with_("seed", "1" * 400), "/seed"),
    "a number without end": Bad(with_("learning_rate", "1e999"), "/learning_rate", "finite"),
    "NaN": Bad(with_("learning_rate", "NaN"), "/learning_rate", "finite"),
    "Infinity": Bad(with_("learning_rate", "-Infinity"), "/learning_rate", "finite"),
    "NaN as a depth": Bad(with_("depth", "NaN"), "/depth"),
    "half a character in the name": Bad(with_("name", '"\\ud800"'), "/name", "unicode"),
    "half a character in a tag": Bad(with_("tags", '["a", "\\udfff"]'), "/tags/1", "unicode"),
    "half a character as a field": Bad(with_("\\ud800", "1"), "", "unicode"),
    "NUL in the name": Bad(with_("name", '"a\\u0000"'), "/name"),
    "NUL in a tag": Bad(with_("tags", '["\\u0000"]'), "/tags/0"),
    "a line break in the name": Bad(with_("name", '"a\\nb"'), "/name"),
    "an unknown field": Bad(with_("nope", "1"), "/nope", "no such field"),
    "an awkward field": Bad(with_("a/b~c", "1"), "/a~1b~0c", "no such field"),
    "no field": Bad(b"{}", "/activation", "required"),
    "text as a number": Bad(with_("units", '"16"'), "/units"),
    "true as a number": Bad(with_("units", "true"), "/units"),
    "a fraction as a number": Bad(with_("units", "16.0"), "/units"),
    "text as a list": Bad(with_("tags", '"abc"'), "/tags"),
    "a tag too many": Bad(with_("tags", str(["a"] * 33).replace("'", '"')), "/tags"),
    "no such dataset": Bad(with_("dataset", '"cifar10"'), "/dataset", "fashion_mnist"),
    "a network too large": Bad(
        b'{"activation": "relu", "depth": 64, "units": 1024}', "/units", "66,938,890", "spec-too-large"
    ),
}


@pytest.mark.parametrize("bad", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_is_no_spec_is_refused_where_it_is_wrong(empty_api: Api, bad: Bad) -> None:
    found = problem(empty_api.post("/experiments", content=bad.body, headers=JSON), 422, bad.kind)
    fault = found["errors"][0]
    assert (fault["pointer"], fault["location"]) == (bad.pointer, "body")
    assert bad.says in fault["message"]
    assert fault["message"] in found["detail"]


def test_every_fault_of_a_body_is_told_at_once(empty_api: Api) -> None:
    body = {"activation": "rleu", "depth": 0, "nope": 1, "tags": ["", "a"]}
    found = problem(empty_api.post("/experiments", json=body), 422)
    assert {fault["pointer"] for fault in found["errors"]} == {"/activation", "/depth", "/nope", "/tags/0"}


def test_of_very_many_faults_the_first_are_told_and_how_many_more_there_are(empty_api: Api) -> None:
    response = empty_api.post("/sweeps", json={"base": {"activation": "relu"}, "grid": {"depth": [0] * 10_000}})
    found = problem(response, 422)
    assert [fault["pointer"] for fault in found["errors"]] == [f"/grid/depth/{place}" for place in range(20)]
    assert found["detail"].endswith("; and 9,980 more")
    response = empty_api.post("/sweeps", json={"base": {"activation": "relu"}, "grid": {"seed": [0] * 500_000}})
    assert "at most 10000 items" in problem(response, 422)["detail"]
    assert len(response.content) < 2_000


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/xml", "image/png", "json", ";"]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/experiments"), ("PUT", "/models/mine")])
def test_a_body_that_is_not_called_json_is_not_read(empty_api: Api, method: str, path: str, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    response = empty_api.request(method, path, content=b'{"activation": "relu", "depth": 1}', headers=headers)
    assert "application/json" in problem(response, 415, "unsupported-media-type")["detail"]


@pytest.mark.parametrize(
    "path",
    ["/nope", "/experiments/x/y/z", "/models/a/b", "/predict/x", "/assets/docs/nope.js", "/assets/docs/%2e%2e/x",
     "/assets/web/..%2fapi%2fapp.py", "/assets/docs/%00", "/%00", "/%ff", "/a%20b", "/%F0%9F%99%82", "/" + "a" * 5000,
     "/admin?x=1"],
)  # fmt: skip
def test_a_path_that_is_not_there_is_told(empty_api: Api, path: str) -> None:
    problem(empty_api.get(path), 404, "not-found")


IDENTITIES = {
    "nobody's": NOBODY, "no UUID": "x", "nil": "0" * 32, "braces": f"%7B{NOBODY}%7D", "NUL": "%00", "a NUL inside":
    NOBODY[:-1] + "%00", "no UTF-8": "%ff", "long": "a" * 5000, "dots": "...", "SQL": "'%20OR%201=1--", "-1": "-1",
    "an emoji": "%F0%9F%99%82", "other digits": "%D9%A0" * 32, "a line": NOBODY + "%0A",
}  # fmt: skip


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES.keys())
def test_an_id_that_nothing_has_is_not_found_on_every_path(empty_api: Api, identity: str) -> None:
    path = f"/experiments/{identity}"
    for method, below in (
        ("GET", ""), ("DELETE", ""), ("GET", "/metrics"), ("GET", "/events"), ("GET", "/model"),
        ("POST", "/cancel"), ("POST", "/retry"),
    ):  # fmt: skip
        problem(empty_api.request(method, path + below), 404, "experiment-not-found")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/experiments", {"GET", "POST"}),
        (f"/experiments/{NOBODY}", {"GET", "DELETE"}),
        (f"/experiments/{NOBODY}/metrics", {"GET"}),
        (f"/experiments/{NOBODY}/cancel", {"POST"}),
        ("/models", {"GET"}),
        ("/models/mine", {"GET", "PUT", "DELETE"}),
        ("/predict", {"POST"}),
        ("/health/live", {"GET"}),
        ("/docs", {"GET"}),
        ("/assets/docs/favicon.png", {"GET"}),
        ("/assets/web/style.css", {"GET"}),
    ],
)
def test_another_method_is_told_the_possible_ones(empty_api: Api, path: str, allowed: set[str]) -> None:
    allowed = allowed | {"HEAD"} if "GET" in allowed else allowed
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        if method not in allowed:
            response = empty_api.request(method, path)
            found = problem(response, 405, "method-not-allowed")
            assert set(response.headers["allow"].split(", ")) == allowed
            assert all(name in found["detail"] for name in allowed)


@pytest.mark.parametrize(
    ("method", "path", "location", "pointer"),
    [
        ("POST", "/predict?explain=x", "query", "/explain"),
        ("POST", "/predict?nope=1", "query", "/nope"),
        ("POST", "/predict?range=0-1&range=0-255", "query", "/range"),
        ("POST", "/predict?model=a%20b", "query", "/model"),
        ("POST", "/predict?experiment_id=x", "query", "/experiment_id"),
        ("POST", f"/predict?experiment_id={NOBODY}&model=best", "query", ""),
        ("GET", f"/experiments/{NOBODY}/metrics?after_epoch=-1", "query", "/after_epoch"),
        ("GET", f"/experiments/{NOBODY}/metrics?after_epoch={'9' * 400}", "query", "/after_epoch"),
        ("GET", f"/experiments/{NOBODY}/metrics?after=1", "query", "/after"),
        ("GET", f"/experiments/{NOBODY}/metrics?after_epoch=1&after_epoch=2", "query", "/after_epoch"),
        ("GET", f"/experiments/{NOBODY}/model?format=h5", "query", "/format"),
        ("GET", f"/experiments/{NOBODY}/model?format=onnx&format=keras", "query", "/format"),
        ("DELETE", "/models/-", "path", "/alias"),
        ("DELETE", "/models/" + "a" * 65, "path", "/alias"),
    ],
)
def test_what_is_wrong_outside_the_body_is_told_where(
    empty_api: Api, method: str, path: str, location: str, pointer: str
) -> None:
    found = problem(empty_api.request(method, path), 422, "invalid-request")
    assert (found["errors"][0]["location"], found["errors"][0]["pointer"]) == (location, pointer)


SECRET = "postgresql://user:hunter2@host/ SELECT * FROM experiments"


def test_an_unexpected_error_tells_nothing_of_the_inside(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    for name in ("create", "get", "metrics", "cancel", "retry", "delete_finished"):
        monkeypatch.setattr(experiments, name, fail)
    monkeypatch.setattr(listing, "page", fail)
    path = f"/experiments/{NOBODY}"
    for method, at in (
        ("POST", "/experiments"), ("GET", "/experiments"), ("GET", path), ("GET", f"{path}/metrics"),
        ("GET", f"{path}/events"), ("DELETE", path), ("POST", f"{path}/cancel"), ("POST", f"{path}/retry"),
    ):  # fmt: skip
        caplog.clear()
        response = sqlite_api.request(method, at, json={"activation": "relu", "depth": 1})
        problem(response, 500, "internal")
        for leak in ("hunter2", "SELECT", "RuntimeError", "Traceback", ".py"):
            assert leak not in response.text + str(response.headers)
        assert "hunter2" in caplog.text  # the operator's log has it


@pytest.fixture
def away(api: Api, request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Takes the database away for a while."""

    @contextmanager
    def sqlite() -> Iterator[None]:
        file = Path(str(api.ports.database.url.database))
        api.ports.database.close()
        file.rename(file.with_suffix(".away"))
        file.mkdir()
        yield
        file.rmdir()
        file.with_suffix(".away").rename(file)

    @contextmanager
    def postgresql() -> Iterator[None]:
        name = api.ports.database.url.database
        with psycopg.connect(request.getfixturevalue("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    return sqlite if api.ports.database.is_sqlite else postgresql


def test_while_the_database_is_away_clients_are_told_to_come_again(api: Api, away: Callable[[], Any]) -> None:
    made = api.post("/experiments", json={"activation": "relu", "depth": 1}).json()
    asked = [
        ("GET", "/experiments", None),
        ("POST", "/experiments", {"activation": "relu", "depth": 1}),
        ("GET", made["links"]["self"], None),
        ("GET", made["links"]["metrics"], None),
        ("GET", made["links"]["events"], None),
        ("POST", made["links"]["cancel"], None),
        ("DELETE", made["links"]["self"], None),
        ("GET", "/models", None),
        ("PUT", "/models/mine", {"experiment_id": made["id"]}),
        ("POST", "/predict", {"image": [0] * 784}),
        ("GET", "/health/ready", None),
    ]
    reason = "it cannot be reached"
    if not api.ports.database.is_sqlite:
        reason = "the server refuses the connection, and its log says why"
    with away():
        for method, path, body in asked:
            response = api.request(method, path, json=body)
            found = problem(response, 503, "unavailable")
            assert int(response.headers["retry-after"]) > 0
            assert found["detail"] == f"the database cannot be used now: {reason}"
        assert api.get("/health/live").status_code == 200
    assert api.get("/health/ready").status_code == 200
    assert api.get("/experiments").json()["data"] == [made]
