"""Limits to how many requests one caller may send: who is counted, what is told, and what is free."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.api.addresses import network_of
from service.api.rates import MOST_CALLERS, Limit
from service.settings import Settings
from tests.integration.conftest import Api, problem, serving

HOUR = 3600


def sent_by(address: str) -> dict[str, str]:
    """As a proxy of this machine says it."""
    return {"X-Forwarded-For": address}


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Api]:
    with serving(Settings(data_dir=tmp_path, rate_limit="3/hour", prediction_rate_limit="2/hour")) as api:
        yield api


def left(headers: object, name: str) -> tuple[int, int]:
    """What is left, and for how many seconds."""
    found = re.fullmatch(rf'"{name}";r=(\d+);t=(\d+)', str(headers))
    assert found is not None, headers
    return int(found[1]), int(found[2])


def test_more_requests_than_allowed_are_refused_and_every_answer_tells_what_is_left(limited: Api) -> None:
    for expected in (2, 1, 0):
        answer = limited.get("/workers")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=3600'
        rest, seconds = left(answer.headers["ratelimit"], "requests")
        assert rest == expected
        assert HOUR - 60 < seconds <= HOUR
    refused = limited.get("/nope")
    found = problem(refused, 429, "rate-limited")
    assert "3 in 3,600 seconds" in found["detail"]
    rest, seconds = left(refused.headers["ratelimit"], "requests")
    assert (rest, str(seconds)) == (0, refused.headers["retry-after"])
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_each_address_is_counted_for_itself_and_a_network_of_ipv6_as_one(limited: Api) -> None:
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"):
        assert left(limited.get("/nope", headers=sent_by(address)).headers["ratelimit"], "requests")[0] == 2
    assert left(limited.get("/nope", headers=sent_by("2001:db8::ffff")).headers["ratelimit"], "requests")[0] == 1


def test_predictions_are_counted_apart(limited: Api) -> None:
    for path in ("/predict", "/v2/models/best/infer", "/v1/models/best:predict"):
        answer = limited.post(path, json={})
        assert answer.headers["ratelimit-policy"] == '"predictions";q=2;w=3600'
    problem(answer, 429, "rate-limited")
    assert left(limited.get("/v2/models/best").headers["ratelimit"], "requests")[0] == 2


def test_predictions_are_requests_when_they_have_no_limit_of_their_own(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, rate_limit="1/hour")) as api:
        assert api.post("/predict", json={}).status_code == 404
        problem(api.get("/experiments"), 429)
    with serving(Settings(data_dir=tmp_path, prediction_rate_limit="1/hour")) as api:
        for _ in range(3):
            assert "ratelimit" not in api.get("/experiments").headers


def test_probes_and_the_pages_files_are_free(limited: Api) -> None:
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/assets/web/app.js") * 4:
        answer = limited.get(path)
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


def test_without_a_limit_nothing_is_told(empty_api: Api) -> None:
    assert "ratelimit" not in empty_api.get("/workers").headers


@pytest.mark.parametrize(
    "wrong", ["600", "0/minute", "600/fortnight", "-1/minute", "600/minute;1/second", "600 / minute"]
)
def test_a_rate_that_is_none_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings(rate_limit=wrong)


def test_a_flood_of_addresses_takes_no_more_memory_than_is_meant_for_them() -> None:
    limit = Limit("requests", "1/day")
    for number in range(2 * MOST_CALLERS):
        limit.ask(str(number))
    assert len(limit._limiter.storage._counts) <= MOST_CALLERS  # type: ignore[attr-defined]


def test_an_address_is_known_in_each_of_its_forms() -> None:
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1") == network_of("2001:db8:0:0:ffff::") != network_of("2001:db8:0:1::1")
    assert network_of("a socket of this machine") == "a socket of this machine"
