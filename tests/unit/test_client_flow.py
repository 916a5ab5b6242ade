"""The client's conversations without a network: every step is looked at, and answered by hand."""

import errno
import socket
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from service import errors as domain
from service.api import problems
from service.client import (
    AliasNotFound,
    ApiError,
    NoAnswer,
    QueueFull,
    RateLimited,
    Retries,
    Sync,
    Unavailable,
    streams,
)
from service.client import errors as client_errors
from service.client.core import Core
from service.client.errors import BY_NAME, problem
from service.client.flow import Close, Emit, End, Flow, Outcome, Pause, Read, Send, Stream, through
from service.client.reasons import reason
from service.client.values import SpecOptions
from service.domain.experiment import Spec

REQUEST = httpx.Request("GET", "http://service/experiments")
BROKEN = httpx.ReadError("broken", request=REQUEST)
NEVER_SENT = httpx.ConnectError("refused", request=REQUEST)


def answer(status: int, kind: str = "about:blank", **headers: str) -> httpx.Response:
    body = {"type": f"urn:epochd:problem:{kind}", "detail": "why"}
    return httpx.Response(status, json=body, headers=headers, request=REQUEST)


def talk(
    *outcomes: httpx.Response | Exception,
    times: int = 2,
    most_seconds: float = 5,
    flow: Callable[[Core], Flow[Any]] | None = None,
    **request: Any,
) -> tuple[list[float], Any]:
    """The pauses between these answers to one request, and what came of it: a response or an error."""
    with httpx.Client(base_url="http://service") as http:
        core = Core(Sync(lambda: http), Retries(times=times, first_seconds=1, most_seconds=most_seconds))
        steps = core.exchange("POST", "/x", **request) if flow is None else flow(core)
        pauses: list[float] = []
        left, outcome = list(outcomes), Outcome()
        try:
            while not isinstance(step := outcome.tell(steps), End):
                outcome = Outcome()
                if isinstance(step, Pause):
                    pauses.append(step.seconds)
                elif isinstance(step, Send):
                    came = left.pop(0)
                    outcome = Outcome(error=came) if isinstance(came, Exception) else Outcome(came)
        except ApiError as error:
            assert left == []
            return pauses, error
    assert left == []
    return pauses, step.value


def test_what_goes_away_is_asked_again_and_the_wait_grows() -> None:
    pauses, came = talk(BROKEN, answer(503), answer(200))
    assert came.status_code == 200
    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2


def test_the_service_says_how_long_to_wait() -> None:
    assert talk(answer(429, **{"Retry-After": "3"}), answer(200))[0] == [3]
    assert talk(answer(503, **{"Retry-After": "0"}), answer(200))[0] == [0]


@pytest.mark.parametrize("wait", [streams.follow, streams.watch])
@pytest.mark.parametrize(
    ("asked", "pauses"), [("60", [60] * 6), ("90", [90] * 6), ("91", []), ("3600", []), ("0", [0] * 6)]
)
def test_whoever_waits_for_an_end_waits_as_long_as_the_service_says_up_to_three_times_as_long(
    wait: Callable[[Core, str], Flow[Any]], asked: str, pauses: list[float]
) -> None:
    refused = answer(429, "rate-limited", **{"Retry-After": asked})
    paused, came = talk(
        *[refused] * (len(pauses) + 1), flow=lambda core: wait(core, "0" * 36), most_seconds=30, times=2
    )
    assert (paused, type(came), came.retry_after) == (pauses, RateLimited, float(asked))


def test_however_often_it_was_asked_the_wait_is_the_longest_and_no_error() -> None:
    assert 15 <= (Retries(times=5000).seconds(4999) or 0) <= 30


def test_a_wait_that_would_be_too_long_is_not_begun() -> None:
    pauses, came = talk(answer(429, "queue-full", **{"Retry-After": "6"}))
    assert (pauses, type(came)) == ([], QueueFull)


def test_it_is_tried_so_often_and_no_more() -> None:
    pauses, came = talk(NEVER_SENT, answer(502), answer(503, "unavailable"))
    assert (len(pauses), type(came)) == (2, Unavailable)
    assert isinstance(talk(BROKEN, times=0)[1], NoAnswer)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 501])
def test_what_would_be_answered_the_same_is_not_asked_again(status: int) -> None:
    pauses, came = talk(answer(status))
    assert (pauses, came.status) == ([], status)


@pytest.mark.parametrize("lost", [BROKEN, answer(503), answer(504)])
def test_what_may_have_been_done_is_not_asked_again_when_twice_is_too_often(lost: Any) -> None:
    assert talk(lost, repeatable=False)[0] == []


@pytest.mark.parametrize(
    "refused", [NEVER_SENT, answer(429), answer(409, "idempotency-key-in-flight")], ids=["unsent", "full", "in flight"]
)
def test_what_was_surely_not_done_is_asked_again(refused: Any) -> None:
    pauses, came = talk(refused, answer(200), repeatable=False)
    assert (len(pauses), came.status_code) == (1, 200)


def delete_alias(*outcomes: httpx.Response | Exception) -> Any:
    return talk(*outcomes, flow=lambda core: core.delete_alias("mine"))[1]


GONE = answer(404, "alias-not-found")


@pytest.mark.parametrize("lost", [[BROKEN], [answer(502)], [answer(504)], [BROKEN, answer(503)]])
def test_what_an_earlier_request_may_have_deleted_is_deleted(lost: list[Any]) -> None:
    assert delete_alias(*lost, GONE) is None


@pytest.mark.parametrize("unheard", [[], [NEVER_SENT], [answer(429)], [answer(503)], [NEVER_SENT, answer(429)]])
def test_what_no_earlier_request_can_have_deleted_was_never_there(unheard: list[Any]) -> None:
    assert type(delete_alias(*unheard, GONE)) is AliasNotFound


IN_FLIGHT = answer(409, "idempotency-key-in-flight")


@pytest.mark.parametrize(
    "outcomes",
    [
        [BROKEN, answer(503), answer(503)],
        [BROKEN, NEVER_SENT, answer(429, "queue-full")],
        [BROKEN, answer(500)],
        [answer(504), NEVER_SENT, NEVER_SENT],
        [answer(504), answer(504), answer(504)],
        [answer(502), answer(401)],
        [IN_FLIGHT, IN_FLIGHT, IN_FLIGHT],
    ],
)
def test_whatever_comes_in_the_end_tells_that_a_request_may_have_arrived(outcomes: list[Any]) -> None:
    assert talk(*outcomes)[1].arrived


@pytest.mark.parametrize("outcomes", [[answer(422)], [NEVER_SENT, answer(503), answer(429)], [NEVER_SENT] * 3])
def test_what_cannot_have_arrived_is_not_said_to_have(outcomes: list[Any]) -> None:
    assert not talk(*outcomes)[1].arrived


def after(cause: Exception) -> httpx.ConnectError:
    """What httpx raises when it cannot connect for a reason."""
    error = httpx.ConnectError(str(cause), request=REQUEST)
    error.__cause__ = cause
    return error


UNKNOWN_HOST = after(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
UNTRUSTED = after(ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version"))


@pytest.mark.parametrize("error", [UNKNOWN_HOST, UNTRUSTED])
def test_what_never_heals_is_not_tried_again(error: Exception) -> None:
    pauses, came = talk(error)
    assert (pauses, type(came), came.arrived) == ([], NoAnswer, False)


@pytest.mark.parametrize(
    "error",
    [
        after(ConnectionRefusedError(111, "Connection refused")),
        after(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")),
        after(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")),
    ],
)
def test_what_may_heal_is_tried_again(error: Exception) -> None:
    assert len(talk(error, answer(200))[0]) == 1


def test_a_host_that_was_there_may_have_lost_its_name_for_a_while() -> None:
    assert len(talk(answer(503), UNKNOWN_HOST, answer(200))[0]) == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (after(ConnectionRefusedError(111, "Connect call failed")), "connection refused"),
        (after(OSError(errno.EHOSTUNREACH, "x")), "no route to host"),
        (UNKNOWN_HOST, "the host name is not known"),
        (httpx.ConnectError("All connection attempts failed"), "All connection attempts failed"),
        (httpx.ReadError("", request=REQUEST), "the connection broke"),
        (httpx.PoolTimeout("", request=REQUEST), "too many requests of this client at once"),
        (httpx.ProxyError("403 Forbidden"), "the proxy of the environment says 403 Forbidden"),
    ],
)
def test_the_reason_is_told_in_words(error: Exception, told: str) -> None:
    assert reason(error) == told


def test_of_several_addresses_the_reason_of_one_is_told() -> None:
    several = OSError("All connection attempts failed")
    several.__cause__ = ExceptionGroup("", [ConnectionRefusedError(111, "a"), OSError(errno.ENETUNREACH, "b")])
    assert reason(after(several)) == "connection refused"


def test_a_redirect_is_no_answer() -> None:
    pauses, came = talk(httpx.Response(301, request=REQUEST))
    assert (pauses, type(came), came.status) == ([], ApiError, 301)


def test_a_refused_stream_is_read_and_closed_before_it_is_asked_for_again() -> None:
    with httpx.Client(base_url="http://service") as http:
        flow = Core(Sync(lambda: http), Retries(times=1)).exchange("GET", "/x", stream=True)
        assert isinstance(next(flow), Send)
        steps = [flow.send(answer(503)), *(flow.send(None) for _ in range(3))]
    assert [type(step) for step in steps] == [Read, Close, Pause, Send]


def first_request(flow: Flow[Any] | Stream[Any]) -> httpx.Request:
    step = next(flow)
    assert isinstance(step, Send)
    return step.request


def patient_core() -> Core:
    """Of a client whose answers may take 200 s."""
    return Core(Sync(lambda: httpx.Client(base_url="http://service", timeout=200)), Retries(times=0))


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes for those who wait."""
    monkeypatch.setattr(streams, "time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(("wait", "head", "body"), [(None, 200, streams.QUIET_SECONDS), (7, 7, 7)])
def test_events_may_take_as_long_to_begin_as_any_answer_and_then_be_silent_for_less(
    wait: float | None, head: float, body: float
) -> None:
    flow = streams.follow(patient_core(), "7", timeout=wait)
    request = first_request(flow)
    assert set(request.extensions["timeout"].values()) == {head}
    flow.send(httpx.Response(200, headers={"Content-Type": "text/event-stream"}, request=request))
    assert request.extensions["timeout"]["read"] == body
    assert isinstance(flow.throw(GeneratorExit()), Close)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(("wait", "most"), [(None, 200), (7, 7)])
def test_a_look_at_a_sweep_may_take_as_long_as_any_answer(wait: float | None, most: float) -> None:
    request = first_request(streams.watch(patient_core(), "0" * 36, timeout=wait))
    assert set(request.extensions["timeout"].values()) == {most}


def test_a_stream_that_is_left_closes_what_it_opened() -> None:
    def numbers() -> Stream[int]:
        try:
            yield Emit(1)
            yield Emit(2)
        finally:
            yield Close(answer(200))

    stream = through(numbers(), lambda number: Emit(number * 10))
    assert next(stream) == Emit(10)
    assert isinstance(stream.throw(GeneratorExit()), Close)
    with pytest.raises(GeneratorExit):
        next(stream)


def test_a_stream_whose_values_cannot_be_used_closes_what_it_opened() -> None:
    closed = []

    def numbers() -> Stream[int]:
        try:
            yield Emit(1)
        finally:
            yield Close(answer(200))
            closed.append(True)

    flow = through(numbers(), lambda number: Emit(number // 0))
    assert isinstance(next(flow), Close)
    with pytest.raises(ZeroDivisionError):
        next(flow)
    assert closed


# The errors.


def raised_by_the_api() -> dict[str, int]:
    """The problems that the API makes of its own errors, with their status."""
    kinds = [kind for kind in vars(domain).values() if isinstance(kind, type) and issubclass(kind, domain.EpochdError)]
    inside = (domain.LeaseLost, domain.TrainingError, domain.StartError)
    return {
        problems._name(kind("why")): problems._status(kind("why")) for kind in kinds if not issubclass(kind, inside)
    }


@pytest.mark.parametrize(("name", "status"), raised_by_the_api().items())
def test_every_problem_is_an_error_of_its_status(name: str, status: int) -> None:
    found = problem(status, {"type": f"urn:epochd:problem:{name}", "detail": "why", "title": "Title"}, "")
    assert (str(found), found.status, found.title, found.type) == ("why", status, "Title", f"urn:epochd:problem:{name}")
    assert found.by_status in {status, None}


def test_the_errors_a_caller_may_catch_have_the_names_of_the_problems() -> None:
    general = {"invalid-input", "invalid-cursor", "unsupported-media-type", "several-hosts", "epochd-error"}
    inside = {"schema-out-of-date", "blob-corrupt", "blob-missing", "key-not-found", "key-name-taken"}
    assert set(raised_by_the_api()) - general - inside <= set(BY_NAME)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    def drawn(kind: type, indent: str = "") -> list[str]:
        children: list[type] = kind.__subclasses__()
        return [
            line
            for child in children
            for last in [child is children[-1]]
            for line in [
                f"{indent}{'└' if last else '├'}── {child.__name__}",
                *drawn(child, indent + ("    " if last else "│   ")),
            ]
        ]

    assert client_errors.__doc__ is not None
    assert "\n".join(drawn(ApiError)) in client_errors.__doc__
    assert {kind.__name__ for kind in BY_NAME.values()} | {"ApiError", "FieldError"} == set(client_errors.__all__)


def test_an_answer_that_is_no_problem_is_an_error_all_the_same() -> None:
    found = problem(502, {}, "http://service answers 502 Bad Gateway")
    assert (type(found), str(found), found.status) == (ApiError, "http://service answers 502 Bad Gateway", 502)
    assert type(problem(404, {"type": "urn:epochd:problem:of-tomorrow"}, "")) is client_errors.NotFound
    assert str(found.about("experiment 7")) == "experiment 7: http://service answers 502 Bad Gateway"
    again = ApiError("why", arrived=True, retry_after=3).about("experiment 7")
    assert (again.arrived, again.retry_after) == (True, 3)


def test_everything_a_spec_has_can_be_said() -> None:
    assert {"activation", "depth", *SpecOptions.__annotations__} == set(Spec.model_fields)
