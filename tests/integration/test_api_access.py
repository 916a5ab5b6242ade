"""Who may ask what: keys, scopes, hosts, origins, sessions, and who did what."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from service.api.security import COOKIE, OPEN, needs_of
from service.client import Client
from service.client.errors import NotAuthenticated, NotPermitted
from service.domain.access import Scope
from service.main import create
from service.settings import Settings
from service.store import keys
from service.store.session import Database
from tests.conftest import succeed
from tests.integration.conftest import Api, claim, problem, record, serving

SPEC = {"activation": "relu", "depth": 1}
IMAGE = {"image": [[0] * 28] * 28}


def make(database: Database, name: str, *scopes: Scope, expires_at: datetime | None = None) -> str:
    with database.write() as session:
        return keys.create(session, name=name, scopes=scopes, expires_at=expires_at)[1]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Guarded:
    """An API that asks for keys, and a key for each scope."""

    def __init__(self, api: Api, tokens: dict[str, str]) -> None:
        self.api = api
        self.tokens = tokens

    def ask(self, who: str | None, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {**request.pop("headers", {}), **(bearer(self.tokens[who]) if who else {})}
        return self.api.request(method, path, headers=headers, **request)


def guarded_in(database_url: str, folder: Path, onnx: bytes) -> Iterator[Guarded]:
    # One address comes without a good key more often here than anybody may.
    settings = Settings(data_dir=folder, database_url=database_url, failed_key_rate_limit="1000000/second")
    create_keys = Database(settings.resolved_database_url)
    from service.store import schema

    folder.mkdir(exist_ok=True)
    schema.initialise(create_keys)
    tokens = {scope.value: make(create_keys, f"who may {scope}", scope) for scope in Scope}
    create_keys.close()
    with serving(settings) as api:
        succeed(api.ports.database, api.ports.blobs, onnx)
        yield Guarded(api, tokens)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: bytes) -> Iterator[Guarded]:
    """One on SQLite that a whole module shares."""
    yield from guarded_in("", tmp_path_factory.mktemp("guarded"), tiny_onnx)


@pytest.fixture
def guarded_on_each(migrated_url: str, tmp_path: Path, tiny_onnx: bytes) -> Iterator[Guarded]:
    """One of the test's own, on each kind of database in turn."""
    yield from guarded_in(migrated_url, tmp_path / "data", tiny_onnx)


def test_a_key_is_good_from_the_moment_it_is_made(guarded: Guarded) -> None:
    """However young the copy of the keys is that the process has."""
    for name in ("a", "b", "c"):
        assert guarded.ask("read", "GET", "/experiments").status_code == 200
        token = make(guarded.api.ports.database, f"just made {name}", Scope.READ)
        assert guarded.api.get("/experiments", headers=bearer(token)).status_code == 200
        other = make(guarded.api.ports.database, f"signs in {name}", Scope.READ)
        with browser(guarded) as client:
            assert client.post("/session", json={"key": other}).status_code == 200


# Scopes.


def path_of(route: BaseRoute) -> str:
    return str(getattr(route, "path", ""))


def test_every_route_says_what_it_needs_or_is_open() -> None:
    app = create(Settings(cors_origins=["https://lab.example"]))
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    paths = {path_of(route) for route in routes}
    assert len(routes) > 40
    assert "/predict" in paths
    undeclared = {path_of(route) for route in routes if needs_of(route) is None}
    assert undeclared == set(OPEN)
    assert {path_of(route) for route in routes if needs_of(route) is not None} & set(OPEN) == set()


def test_the_description_says_what_each_operation_needs() -> None:
    described = create(Settings()).openapi()
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert ("security" in operation) == (path not in OPEN), (method, path)
            if "security" in operation:
                assert {"401", "403"} <= operation["responses"].keys(), (method, path)
    predict = described["paths"]["/predict"]["post"]["security"]
    assert {"bearer": ["predict"]} in predict
    metadata = described["paths"]["/v2/models/{model}"]["get"]["security"]
    assert [one["bearer"] for one in metadata if "bearer" in one] == [["predict"], ["read"]]


READING = [("GET", "/experiments"), ("GET", "/sweeps"), ("GET", "/models"), ("GET", "/workers")]
PREDICTING = [("POST", "/predict"), ("POST", "/v2/models/best/infer"), ("POST", "/v1/models/best:predict")]
EITHER = [("GET", "/v2"), ("GET", "/v2/models/best"), ("GET", "/v1/models/best"), ("GET", "/v1/models/best/metadata")]
WRITING = [("POST", "/experiments"), ("POST", "/sweeps"), ("PUT", "/models/champion"), ("DELETE", "/models/champion")]
ALLOWED = {
    "read": {*READING, *EITHER},
    "predict": {*PREDICTING, *EITHER},
    "write": {*READING, *EITHER, *WRITING},
    "admin": {*READING, *PREDICTING, *EITHER, *WRITING, ("GET", "/audit")},
}
EVERY = sorted(ALLOWED["admin"])


@pytest.mark.parametrize(("method", "path"), EVERY)
def test_nothing_is_answered_without_a_key(guarded: Guarded, method: str, path: str) -> None:
    answer = guarded.ask(None, method, path, json={})
    body = problem(answer, 401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in body["detail"]


@pytest.mark.parametrize("who", ALLOWED)
@pytest.mark.parametrize(("method", "path"), EVERY)
def test_a_key_is_good_for_its_scopes(guarded: Guarded, who: str, method: str, path: str) -> None:
    answer = guarded.ask(who, method, path, json={"wrong": True})
    if (method, path) in ALLOWED[who]:
        assert answer.status_code in ({200} if method == "GET" else {404, 422}), answer.text
    else:
        detail = problem(answer, 403, "not-permitted")["detail"]
        assert "needs the scope" in detail
        assert f"has {'read, write' if who == 'write' else who}" in detail


def test_a_prediction_is_answered_with_its_scope(guarded: Guarded) -> None:
    assert guarded.ask("predict", "POST", "/predict", json=IMAGE).json()["predictions"]


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/session"])
def test_what_is_open_stays_open(guarded: Guarded, path: str) -> None:
    assert guarded.ask(None, "GET", path).status_code == 200
    assert guarded.api.get(path, headers=bearer("epochd_x_nonsense")).status_code == 200


def test_an_event_stream_needs_a_key(guarded: Guarded) -> None:
    one = guarded.ask("read", "GET", "/experiments?status=succeeded").json()["data"][0]["links"]["events"]
    problem(guarded.ask(None, "GET", one), 401)
    assert "event: done" in guarded.ask("read", "GET", one).text


@pytest.mark.slow
def test_an_event_stream_tells_nothing_to_a_key_that_was_revoked(guarded_on_each: Guarded) -> None:
    api = guarded_on_each.api
    running = claim(api)
    headers = bearer(guarded_on_each.tokens["read"])
    with api.stream("GET", f"/experiments/{running.experiment_id}/events", headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if '"running"' in line)
        with api.ports.database.write() as session:
            keys.revoke(session, "who may read")
        until(api, headers, 401)
        record(api, running, 1)
        assert "event: epoch" not in list(lines)


def test_a_head_needs_what_its_get_needs(guarded: Guarded) -> None:
    assert guarded.ask(None, "HEAD", "/experiments").status_code == 401
    assert guarded.ask("read", "HEAD", "/experiments").status_code == 200


# Keys.


@pytest.mark.parametrize(
    "header",
    ["Basic YTpi", "Bearer", "Bearer nonsense", "Bearer epochd_aaaa_" + "x" * 43, "\xff", "Bearer \xff"],
)
def test_what_is_no_key_is_refused(guarded: Guarded, header: str) -> None:
    answer = guarded.api.get("/experiments", headers=[(b"Authorization", header.encode("latin-1"))])
    problem(answer, 401, "not-authenticated")


def test_a_key_with_another_secret_is_refused(guarded: Guarded) -> None:
    ours, theirs = guarded.tokens["admin"], guarded.tokens["read"]
    forged = f"{ours.rsplit('_', maxsplit=1)[0][:17]}_{theirs.split('_', maxsplit=2)[2]}"
    assert forged.split("_")[1] == ours.split("_")[1]
    problem(guarded.api.get("/experiments", headers=bearer(forged)), 401)


@pytest.mark.slow
def test_an_expired_key_is_refused_by_name(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path)) as api:
        token = make(api.ports.database, "short", Scope.READ, expires_at=datetime.now(UTC) + timedelta(seconds=1))
        until(api, bearer(token), 401)
        assert "expired" in problem(api.get("/experiments", headers=bearer(token)), 401)["detail"]


def until(api: Api, headers: dict[str, str], status: int) -> None:
    """Wait until the service knows what changed in the database. It tells whoever asks who they are, however often."""
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while (api.get("/session", headers=headers).json()["refusal"] is not None) != (status == 401):
        assert datetime.now(UTC) < deadline
    assert api.get("/experiments", headers=headers).status_code == status


@pytest.mark.slow
def test_keys_are_asked_for_from_the_first_on_and_a_revoked_one_is_refused(api: Api) -> None:
    assert api.get("/session").json() == {
        "name": "anonymous",
        "scopes": ["read", "predict", "write", "admin"],
        "asks_for_key": False,
        "refusal": None,
    }
    token = make(api.ports.database, "lab", Scope.READ)
    until(api, {}, 401)
    until(api, bearer(token), 200)
    with api.ports.database.write() as session:
        keys.revoke(session, "lab")
    until(api, bearer(token), 401)
    assert "revoked" in problem(api.get("/experiments", headers=bearer(token)), 401)["detail"]
    until(api, {}, 401)


def test_use_of_a_key_is_written_down(guarded: Guarded) -> None:
    guarded.ask("write", "GET", "/experiments").raise_for_status()
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while True:
        with guarded.api.ports.database.read() as session:
            if keys.find(session, "who may write").last_used_at is not None:
                break
        assert datetime.now(UTC) < deadline


def test_the_client_sends_its_key_and_tells_refusals_apart(guarded: Guarded) -> None:
    url = str(guarded.api.base_url)
    with Client(url, api_key=guarded.tokens["read"]) as client:
        assert list(client.experiments())
        with pytest.raises(NotPermitted, match="needs the scope write, and the key 'who may read' has read"):
            client.train("relu", 1)
    with Client(url) as client, pytest.raises(NotAuthenticated, match="EPOCHD_API_KEY"):
        client.models()


# Hosts and origins.


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1", "127.3.2.1:80", "[::1]:8000", "a.localhost"]
)
def test_this_machines_names_are_ours(guarded: Guarded, host: str) -> None:
    assert guarded.api.get("/session", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1:8000", "127.0.0.1.evil.example"])
def test_a_name_that_leads_here_from_elsewhere_is_refused(guarded: Guarded, host: str) -> None:
    for path in ("/", "/session", "/experiments"):
        problem(guarded.api.get(path, headers={"Host": host}), 421, "unknown-host")
    assert guarded.api.get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("Host", 400), ("Accept", 200)])
@pytest.mark.parametrize("path", ["/session", "/health/live"])
def test_more_than_one_host_is_refused_and_other_headers_may_come_twice(
    empty_api: Api, path: str, name: str, status: int
) -> None:
    address = f"{empty_api.base_url.host}:{empty_api.base_url.port}"
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:  # httpx sends no such thing
        connection.putrequest("GET", path)  # with the first Host
        for _ in range(2):
            connection.putheader(name, "localhost" if name == "Host" else "*/*")
        connection.endheaders()
        answer = connection.getresponse()
        body = json.load(answer)
    assert answer.status == status
    assert (body.get("type") == "urn:epochd:problem:several-hosts") == (status == 400)


def test_names_can_be_allowed(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, allowed_hosts=["epochd.example", "*.lab"])
    with serving(settings) as api:
        ours = ("epochd.example", "EPOCHD.example:80", "a.lab", "localhost")
        for host in (*ours, "lab", "x.example"):
            status = 200 if host in ours else 421
            assert api.get("/session", headers={"Host": host}).status_code == status, host


def test_any_name_is_ours_where_other_machines_reach_us(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, host="0.0.0.0")) as api:
        assert api.get("/session", headers={"Host": "whatever.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 422),
        ({"Sec-Fetch-Site": "same-origin"}, 422),
        ({"Sec-Fetch-Site": "none"}, 422),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, 422),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost:8000"}, 422),
        ({"Origin": "http://localhost:9000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/experiments", "/predict", "/session"])
def test_a_page_from_elsewhere_changes_nothing(empty_api: Api, path: str, headers: dict[str, str], status: int) -> None:
    answer = empty_api.post(path, json={"wrong": True}, headers={"Host": "localhost:8000", **headers})
    if status == 403:
        problem(answer, 403, "cross-origin")
    else:
        assert answer.status_code in {404, 422}, answer.text


def test_a_page_from_elsewhere_may_be_let_in(tmp_path: Path) -> None:
    lab = "https://lab.example"
    with serving(Settings(data_dir=tmp_path, cors_origins=[lab])) as api:
        asked = {
            "Origin": lab,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = api.options("/experiments", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == lab
        made = api.post("/experiments", json=SPEC, headers={"Origin": lab, "Sec-Fetch-Site": "cross-site"})
        assert made.status_code == 202
        assert made.headers["access-control-allow-origin"] == lab
        other = api.post("/experiments", json=SPEC, headers={"Origin": "https://evil.example"})
        problem(other, 403, "cross-origin")
        assert "access-control-allow-origin" not in other.headers


def test_no_page_from_elsewhere_reads_anything_unless_it_is_let_in(empty_api: Api) -> None:
    answer = empty_api.get("/experiments", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# Sessions.


@contextlib.contextmanager
def browser(guarded: Guarded) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.api.base_url) as client:
        yield client


def test_a_session_begins_with_a_key_and_ends(guarded: Guarded) -> None:
    with browser(guarded) as client:
        before = client.get("/session").json()
        assert (before["name"], before["scopes"], before["asks_for_key"]) == (None, [], True)
        problem(client.post("/session", json={"key": "nonsense"}), 401, "not-authenticated")
        begun = client.post("/session", json={"key": f" {guarded.tokens['write']}\n"})
        assert begun.json()["name"] == "who may write"
        assert begun.json()["scopes"] == ["read", "write"]
        cookie = begun.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        for part in ("HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={7 * 24 * 3600}"):
            assert part in cookie
        assert "Secure" not in cookie
        assert client.get("/experiments").status_code == 200
        assert client.get("/session").json()["name"] == "who may write"
        problem(client.post("/predict", json=IMAGE), 403)
        assert client.delete("/session").status_code == 204
        problem(client.get("/experiments"), 401)


def test_a_header_goes_before_the_cookie(guarded: Guarded) -> None:
    headers = {"Cookie": f"a=b; {COOKIE}={guarded.tokens['write']}", **bearer(guarded.tokens["predict"])}
    problem(guarded.api.get("/experiments", headers=headers), 403)


def test_a_cookie_lasts_no_longer_than_its_key(guarded: Guarded) -> None:
    token = make(guarded.api.ports.database, "hour", Scope.READ, expires_at=datetime.now(UTC) + timedelta(hours=1))
    until(guarded.api, bearer(token), 200)
    with browser(guarded) as client:
        cookie = client.post("/session", json={"key": token}).raise_for_status().headers["set-cookie"]
    age = int(cookie.split("Max-Age=")[1].split(";")[0])
    assert 3000 < age <= 3600


def test_a_cookie_that_came_by_https_goes_by_https_alone(guarded: Guarded) -> None:
    headers = {"X-Forwarded-Proto": "https"}
    answer = guarded.api.post("/session", json={"key": guarded.tokens["read"]}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"]
    guarded.api.cookies.clear()


# Who did what.


def test_every_act_is_told_with_who_did_it(guarded_on_each: Guarded) -> None:
    ask = guarded_on_each.ask
    model = ask("read", "GET", "/experiments").json()["data"][0]["id"]
    one = ask("write", "POST", "/experiments", json=SPEC).json()["id"]
    for _ in range(2):
        ask("write", "POST", f"/experiments/{one}/cancel").raise_for_status()
    again = ask("write", "POST", f"/experiments/{one}/retry").json()["id"]
    ask("admin", "DELETE", f"/experiments/{one}").raise_for_status()
    sweep = ask("write", "POST", "/sweeps", json={"base": {"activation": "relu"}, "grid": {"depth": [1, 2]}}).json()[
        "id"
    ]
    ask("write", "POST", f"/sweeps/{sweep}/cancel").raise_for_status()
    ask("write", "DELETE", f"/sweeps/{sweep}").raise_for_status()
    ask("write", "PUT", "/models/champion", json={"experiment_id": model}).raise_for_status()
    ask("admin", "DELETE", "/models/champion").raise_for_status()
    problem(ask("write", "DELETE", "/models/champion"), 404)
    told = ask("admin", "GET", "/audit").json()["data"]
    assert [(entry["action"], entry["target"], entry["actor"]) for entry in reversed(told)] == [
        ("experiment.create", one, "who may write"),
        ("experiment.cancel", one, "who may write"),
        ("experiment.retry", again, "who may write"),
        ("experiment.delete", one, "who may admin"),
        ("sweep.create", sweep, "who may write"),
        ("sweep.cancel", sweep, "who may write"),
        ("sweep.delete", sweep, "who may write"),
        ("alias.set", "champion", "who may write"),
        ("alias.delete", "champion", "who may admin"),
    ]
    assert {entry["address"] for entry in told} == {"127.0.0.1"}
    key = guarded_on_each.tokens["write"].split("_")[1]
    narrowed = ask("admin", "GET", f"/audit?target=champion&key={key}").json()["data"]
    assert [entry["action"] for entry in narrowed] == ["alias.set"]


def test_a_repeated_request_is_one_act_and_keys_do_not_share_answers(guarded: Guarded) -> None:
    headers = {"Idempotency-Key": "same"}
    first, second = (guarded.ask("write", "POST", "/experiments", json=SPEC, headers=headers).json() for _ in range(2))
    other = guarded.ask("admin", "POST", "/experiments", json=SPEC, headers=headers).json()
    assert first["id"] == second["id"] != other["id"]
    told = guarded.ask("admin", "GET", f"/audit?target={first['id']}").json()["data"]
    assert [entry["action"] for entry in told] == ["experiment.create"]


def test_an_experiment_knows_the_key_that_queued_it(guarded: Guarded) -> None:
    from service.store.tables import ExperimentRow

    one = guarded.ask("write", "POST", "/experiments", json=SPEC).json()["id"]
    with guarded.api.ports.database.read() as session:
        assert session.get_one(ExperimentRow, one).created_by == guarded.tokens["write"].split("_")[1]
