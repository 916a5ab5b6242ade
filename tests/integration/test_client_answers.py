"""The client before a server that is no epochd, or that says nothing: an error of the client, in clear words."""

import asyncio
import http.server
import json
import pickle
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from service.client import (
    ApiError,
    AsyncClient,
    Client,
    ExperimentFailed,
    InvalidRequest,
    NoAnswer,
    Retries,
    WaitTimeout,
    streams,
)
from service.client.handles import ExperimentHandle, SweepHandle
from service.client.values import Seen
from service.domain.experiment import Experiment, Failure
from service.domain.sweep import Sweep
from tests.http_servers import answering
from tests.integration.conftest import Api

ONCE = Retries(times=0)
AGAIN = Retries(times=4, first_seconds=0.01, most_seconds=0.02)
NOBODY = "019304a2-7b1c-7d3e-8f00-0123456789ab"
COMMON = {"id": NOBODY, "created_at": "2026-01-01T00:00:00Z", "finished_at": None}
EXPERIMENT = COMMON | {
    "status": "running", "attempt": 1, "spec": {"activation": "relu", "depth": 1},
    "progress": {"epoch": 0, "epochs": 10}, "result": None, "model": None, "error": None, "sweep_id": None,
    "retry_of": None, "started_at": None,
}  # fmt: skip
SWEEP = COMMON | {
    "status": "running", "name": None, "size": 1, "progress": {"done": 0, "total": 1, "queued": 1},
    "spec": {"grid": {"activation": ["relu"], "depth": [1]}},
}  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
    """Answers everything with the same."""

    status = 200
    body = b""
    headers: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answers(
        self, body: bytes | str, content_type: str = "application/json", status: int = 200, **more: str
    ) -> None:
        self.body = body if isinstance(body, bytes) else body.encode()
        self.status = status
        self.headers = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in more.items()}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with answering(Server(("127.0.0.1", 0), Handler)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, retries=ONCE) as client:
        yield client


def experiment(client: Client | AsyncClient, **values: Any) -> ExperimentHandle[Any]:
    value = Experiment.model_validate(EXPERIMENT | values)
    return ExperimentHandle(client._carrier, client._core, Seen(value, {}))


CALLS: dict[str, Callable[[Client], Any]] = {
    "train": lambda client: client.train("relu", 1),
    "sweep": lambda client: client.sweep(grid={"depth": [1]}),
    "plan": lambda client: client.plan_sweep(grid={"depth": [1]}),
    "list": lambda client: list(client.experiments()),
    "short id": lambda client: client.get_experiment("01234567"),
    "models": lambda client: client.models(),
    "workers": lambda client: client.workers(),
    "page": lambda client: client.page(),
    "alias": lambda client: client.alias("mine"),
    "metrics": lambda client: client.metrics(NOBODY),
    "predict": lambda client: client.predict(b"x"),
    "many": lambda client: client.predict_many([b"x", b"x"]),
    "each": lambda client: client.predict_each(b"x", ["a", "b"]),
    "figure": lambda client: experiment(client).figure(),
    "png": lambda client: experiment(client).draw("learning-curves", kind="png"),
    "wait": lambda client: experiment(client).wait(timeout=60),
    "epochs": lambda client: list(experiment(client).epochs(timeout=60)),
}
BODIES: dict[str, bytes | str] = {
    "{}": "{}",
    "a list": "[]",
    "null": "null",
    "nothing": "",
    "half": '{"id": "x',
    "nested": "[" * 100_000,
    "bytes": b"\xff\xfe\xff{",
    "wrong parts": '{"data": [null], "next_cursor": 5, "predictions": [1], "answers": [1, 2, 3], "layout": 5}',
    "empty parts": '{"data": [], "next_cursor": "again", "predictions": [], "answers": [{}, {}]}',
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", BODIES)
def test_an_answer_of_another_shape_is_an_error_of_the_client(
    server: Server, client: Client, call: str, body: str
) -> None:
    server.answers(BODIES[body])
    if body == "empty parts" and call in {"models", "short id", "workers", "page"}:  # nothing is wrong with none at all
        return
    with pytest.raises(ApiError, match=server.url):
        CALLS[call](client)


@pytest.mark.parametrize("call", CALLS)
def test_a_page_for_people_is_told_as_one(server: Server, client: Client, call: str) -> None:
    server.answers("<html>", "text/html")
    with pytest.raises(ApiError, match=f"{server.url} answered, but not as epochd: text/html"):
        CALLS[call](client)
    assert client.ready() is False


@pytest.mark.parametrize("call", ["wait", "epochs"])
@pytest.mark.parametrize("data", ['{"epoch": ', "[" * 100_000, "[]", "null", '{"status": []}'])
@pytest.mark.parametrize("kind", ["epoch", "status"])
def test_an_event_of_another_shape_is_an_error_of_the_client(
    server: Server, client: Client, call: str, data: str, kind: str
) -> None:
    server.answers(f"id: 1\nevent: {kind}\ndata: {data}\n\n", "text/event-stream")
    with pytest.raises(ApiError) as raised:
        CALLS[call](client)
    assert not isinstance(raised.value, WaitTimeout)


def test_a_redirect_says_where_to(server: Server, client: Client) -> None:
    server.answers("", status=302, Location="http://elsewhere/epochd")
    with pytest.raises(ApiError, match="302 Found and leads to http://elsewhere/epochd"):
        client.models()


@pytest.mark.parametrize(
    "body",
    [
        '{"title": 5, "detail": [1], "errors": "x", "type": 7, "status": "a"}',
        '{"errors": 5, "detail": ""}',
        '{"errors": [{"pointer": 1}, 5]}',
        "[1, 2]",
    ],
)
def test_a_problem_of_another_shape_is_a_problem_all_the_same(server: Server, client: Client, body: str) -> None:
    server.answers(body, "application/problem+json", 422)
    with pytest.raises(InvalidRequest, match=f"{server.url} answers 422"):
        client.models()


@pytest.mark.parametrize("asked", ["²", "9" * 5000, "Wed, 21 Oct 2026 07:28:00 GMT", "-1", ""])
def test_a_wait_that_is_no_number_is_no_error_of_its_own(server: Server, asked: str) -> None:
    server.answers("{}", status=503, Retry_After=asked)
    with Client(server.url, retries=AGAIN) as client, pytest.raises(ApiError) as raised:
        client.models()
    assert raised.value.status == 503


# Waits.


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_wait_keeps_its_time_before_a_server_that_says_nothing(silent: str) -> None:
    with Client(silent, retries=AGAIN) as client:
        waiting = SweepHandle(client._carrier, client._core, Seen(Sweep.model_validate(SWEEP), {}))
        for wait in (waiting.wait, experiment(client).wait):
            with pytest.raises(WaitTimeout, match=r"has not ended within 0\.3 s"):
                wait(timeout=0.3)


class Quiet(http.server.ThreadingHTTPServer):
    """Begins a stream of events and says no more of it; whoever comes again is told that it is done."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), QuietHandler)
        self.asked: list[str] = []
        self.again = threading.Event()


class QuietHandler(http.server.BaseHTTPRequestHandler):
    server: Quiet

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} from {self.headers.get('Last-Event-ID')}")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if len(self.server.asked) == 1:
            self.wfile.write(b'id: 1\nevent: status\ndata: {"status": "running"}\n\n')
            self.server.again.wait(30)
        else:
            self.server.again.set()
            self.wfile.write(b"id: 2\nevent: done\ndata: {}\n\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_stream_that_falls_silent_is_opened_anew_however_long_an_answer_may_take(
    monkeypatch: pytest.MonkeyPatch, kind: type[Client | AsyncClient]
) -> None:
    monkeypatch.setattr(streams, "QUIET_SECONDS", 0.2)
    with answering(Quiet()) as server:
        url = f"http://127.0.0.1:{server.server_port}"

        async def epochs() -> list[Any]:
            async with AsyncClient(url, retries=ONCE, timeout_seconds=1000) as client:
                return [one async for one in experiment(client).epochs()]

        if kind is AsyncClient:
            assert asyncio.run(epochs()) == []
        else:
            with Client(url, retries=ONCE, timeout_seconds=1000) as client:
                assert list(experiment(client).epochs()) == []
        events = f"/experiments/{NOBODY}/events"
        assert server.asked == [f"{events} from 0", f"{events} from 1"]


# What is told to whom.


def test_an_answer_that_is_lost_says_that_the_request_may_have_arrived(silent: str) -> None:
    with Client(silent, retries=ONCE, timeout_seconds=0.2) as client, pytest.raises(NoAnswer) as raised:
        client.train("relu", 1)
    assert raised.value.arrived
    assert pickle.loads(pickle.dumps(raised.value)).arrived
    with Client("http://127.0.0.1:9", retries=ONCE) as client, pytest.raises(NoAnswer) as raised:
        client.train("relu", 1)
    assert not raised.value.arrived


@pytest.fixture
def hanging_up() -> Iterator[tuple[str, list[bytes]]]:
    """The address of somebody who takes requests and hangs up without an answer, and the requests."""
    asked: list[bytes] = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(65536))

    with answering(socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp)) as listener:
        yield f"http://127.0.0.1:{listener.server_address[1]}", asked


@pytest.mark.parametrize(
    ("method", "said", "times"),
    [
        ("POST", {}, 1),
        ("post", {}, 1),
        ("get", {}, 5),
        ("PUT", {}, 5),
        ("post", {"repeatable": True}, 5),
        ("GET", {"repeatable": False}, 1),
    ],
)
def test_a_request_is_repeated_as_its_method_allows_or_as_it_is_said(
    hanging_up: tuple[str, list[bytes]], method: str, said: dict[str, bool], times: int
) -> None:
    url, asked = hanging_up
    with Client(url, retries=AGAIN) as client, pytest.raises(NoAnswer):
        client.request(method, "/predict", **said)
    assert [one.split()[0].decode() for one in asked] == [method.upper()] * times


@pytest.mark.parametrize(
    ("path", "asked_for"),
    [
        ("/experiments", "/base/experiments"),
        ("experiments", "/base/experiments"),
        ("/v1/models/best:predict", "/base/v1/models/best:predict"),
        ("/x?from=http://elsewhere/../y", "/base/x?from=http://elsewhere/../y"),
    ],
)
def test_a_request_is_for_a_path_of_the_service(hanging_up: tuple[str, list[bytes]], path: str, asked_for: str) -> None:
    url, asked = hanging_up
    with Client(f"{url}/base", retries=ONCE) as client, pytest.raises(NoAnswer):
        client.request("GET", path)
    assert [one.split()[1].decode() for one in asked] == [asked_for]


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:9/experiments", "HTTPS://elsewhere/", "//elsewhere/experiments", "http:/x", "mailto:x",
        "/../x", "/x/..", "..", "/x/../../y?z", b"/x", None, httpx.URL("http://127.0.0.1:9/x"),
    ],
)  # fmt: skip
def test_a_request_for_what_is_elsewhere_is_not_sent(hanging_up: tuple[str, list[bytes]], path: Any) -> None:
    url, asked = hanging_up
    with (
        Client(f"{url}/base", api_key="secret", retries=ONCE) as client,
        pytest.raises(InvalidRequest, match=f"takes a path of {url}/base/, such as /experiments"),
    ):
        client.request("GET", path)
    assert asked == []


@pytest.mark.parametrize("name", ["follow_redirects", "auth", "stream", "retries", "jsn"])
def test_a_request_takes_no_option_that_it_does_not_know(client: Client, name: str) -> None:
    with pytest.raises(TypeError, match=f"request takes no {name}: it takes params, headers, .* and repeatable"):
        client.request("GET", "/experiments", **{name: None})


def test_a_host_that_nobody_knows_is_told_as_that() -> None:
    # A resolver that cannot be reached knows nothing for sure.
    told = r"http://nobody\.invalid: the host name (is not known|cannot be looked up)"
    with Client("http://nobody.invalid", retries=ONCE) as client, pytest.raises(NoAnswer, match=told):
        client.models()


def test_whoever_hangs_up_or_says_nothing_is_told_as_that(silent: str) -> None:
    with Client(silent, retries=ONCE, timeout_seconds=0.2) as client, pytest.raises(NoAnswer, match=r"came for 0\.2 s"):
        client.models()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, retries=ONCE) as client, pytest.raises(NoAnswer, match="closed without an answer"):
            client.models()
        thread.join()


def test_an_experiment_that_failed_can_be_told_to_another_process() -> None:
    value = Experiment.model_validate(
        EXPERIMENT | {"status": "failed", "error": Failure(code="training_diverged", message="the loss became NaN")}
    )
    again = pickle.loads(pickle.dumps(ExperimentFailed(value)))
    assert (again.experiment, str(again)) == (value, str(ExperimentFailed(value)))


def test_a_closed_client_says_so(server: Server) -> None:
    server.answers(json.dumps({"data": []}))
    client = Client(server.url)
    client.close()
    for call in (client.models, client.ready, experiment(client).wait, lambda: list(experiment(client).epochs())):
        with pytest.raises(ApiError, match="is closed: make another one"):
            call()


@pytest.mark.parametrize("model", ["best,best", "", "a,b", None])
def test_one_model_is_one_name(client: Client, model: Any) -> None:
    for call in (client.predict, client.predict_many):
        with pytest.raises(InvalidRequest, match="is no model"):
            call([b"x"], model=model)
    with pytest.raises(InvalidRequest, match="is no model"):
        client.predict_each(b"x", [model, "best"])


def test_no_model_at_all_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="no model is named"):
        client.predict_each(b"x", iter([]))


@pytest.mark.parametrize("name", [".", "..", "", 7])
def test_what_would_lead_elsewhere_is_no_name(client: Client, name: Any) -> None:
    for call in (client.alias, client.delete_alias, lambda name: client.set_alias(name, NOBODY)):
        with pytest.raises(InvalidRequest, match="is no name"):
            call(name)
    with pytest.raises(InvalidRequest, match="is no name"):
        experiment(client).draw(name, kind="png")


@pytest.mark.parametrize("text", ["x" * 100_000, "\udcff" * 36, "0123456", "01234567\n"])
def test_what_cannot_be_an_id_is_told_without_asking(text: str) -> None:
    with Client("http://127.0.0.1:9", retries=ONCE) as client:
        for call in (client.get_experiment, client.get_sweep, client.metrics):
            with pytest.raises(ApiError, match=r"is no id|is no text") as raised:
                call(text)
            assert not isinstance(raised.value, NoAnswer)
            assert len(str(raised.value)) < 400


def test_a_name_that_is_too_long_to_ask_for_is_refused(api: Api) -> None:
    with Client(str(api.base_url)) as client, pytest.raises(InvalidRequest, match="cannot be asked"):
        client.predict(b"x", model="x" * 100_000)


@pytest.fixture
def api(sqlite_api: Api) -> Api:
    return sqlite_api
