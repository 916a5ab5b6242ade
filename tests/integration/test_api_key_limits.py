"""Limits of each API key, through the API: what waits, what a day's training costs, how often it asks."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from service.api import addresses
from service.api.failures import MOST_TOLD, TELL_SECONDS, Tale
from service.domain.access import Scope
from service.domain.experiment import Spec
from service.main import open_ports
from service.settings import Settings
from service.store import keys, trail
from service.store.tables import UsageRow
from tests.integration.conftest import Api, problem, serving

pytestmark = pytest.mark.slow

SPEC = {"activation": "relu", "depth": 1, "epochs": 1}
WRONG = "epochd_nobody_" + "x" * 43
COST = Spec.model_validate(SPEC).training_cost


@contextlib.contextmanager
def keyed(settings: Settings, *names: str) -> Iterator[tuple[Api, list[dict[str, str]]]]:
    """An API that asks for keys, and the headers of one of each name that may do everything."""
    with open_ports(settings) as ports, ports.database.write() as session:
        tokens = [keys.create(session, name=name, scopes=[Scope.ADMIN], expires_at=None)[1] for name in names]
    with serving(settings) as api:
        yield api, [{"Authorization": f"Bearer {token}"} for token in tokens]


def post(api: Api, headers: dict[str, str], path: str = "/experiments", **body: Any) -> httpx.Response:
    return api.post(path, json=body or SPEC, headers=headers)


def used(api: Api) -> list[int]:
    with api.ports.database.read() as session:
        return list(session.scalars(select(UsageRow.parameter_steps).order_by(UsageRow.parameter_steps)))


def test_a_key_may_have_so_much_waiting_and_others_are_not_in_its_way(migrated_url: str, tmp_path: Path) -> None:
    with keyed(Settings(data_dir=tmp_path, database_url=migrated_url, max_queued_per_key=2), "one", "other") as (
        api,
        (one, other),
    ):
        first = post(api, one).raise_for_status()
        problem(post(api, one, "/sweeps", base=SPEC, seeds=2), 429, "key-queue-full")
        post(api, one).raise_for_status()
        refused = post(api, one)
        assert "2 experiments of this API key wait already" in problem(refused, 429, "key-queue-full")["detail"]
        assert int(refused.headers["retry-after"]) > 0
        post(api, other, "/sweeps", base=SPEC, seeds=2).raise_for_status()
        api.post(f"{first.headers['location']}/cancel", headers=one).raise_for_status()
        api.post(f"{first.headers['location']}/retry", headers=one).raise_for_status()
        problem(api.post(f"{first.headers['location']}/retry", headers=one), 429, "key-queue-full")
        assert used(api) == [2 * COST, 3 * COST]  # what was refused has cost nothing


def test_a_day_of_a_key_has_a_quota_and_a_repeated_request_costs_nothing(migrated_url: str, tmp_path: Path) -> None:
    with keyed(Settings(data_dir=tmp_path, database_url=migrated_url, training_quota=3 * COST), "one", "other") as (
        api,
        (one, other),
    ):
        for _ in range(3):
            post(api, one | {"Idempotency-Key": "again"}).raise_for_status()
        assert used(api) == [COST]
        problem(post(api, one, "/sweeps", base=SPEC, seeds=4), 422, "training-too-costly")
        refused = post(api, one, "/sweeps", base=SPEC, seeds=3)
        detail = problem(refused, 429, "quota-reached")["detail"]
        assert f"cost {3 * COST:,} parameter-steps" in detail
        assert f"has cost {COST:,} of the {3 * COST:,}" in detail
        assert 0 < int(refused.headers["retry-after"]) <= 24 * 3600
        post(api, one, "/sweeps", base=SPEC, seeds=2).raise_for_status()
        post(api, other).raise_for_status()
        assert used(api) == [COST, 3 * COST]
        assert len(api.get("/experiments", headers=one).json()["data"]) == 4


def test_a_key_is_counted_by_itself_whatever_its_address(tmp_path: Path) -> None:
    with keyed(Settings(data_dir=tmp_path, rate_limit="2/hour"), "one", "other") as (api, (one, other)):
        for headers, address, status in (
            (one, "192.0.2.1", 200), (one, "192.0.2.2", 200), (one, "192.0.2.3", 429), (other, "192.0.2.1", 200),
        ):  # fmt: skip
            assert api.get("/workers", headers=headers | {"X-Forwarded-For": address}).status_code == status


def test_an_address_may_try_so_many_wrong_keys_and_right_ones_still_work_from_there(tmp_path: Path) -> None:
    with keyed(Settings(data_dir=tmp_path, failed_key_rate_limit="3/hour"), "right") as (api, (right,)):
        wrong = {"Authorization": f"Bearer {WRONG}"}
        problem(api.get("/workers", headers=wrong), 401)
        problem(api.get("/workers"), 401)
        problem(api.post("/session", json={"key": WRONG}), 401)
        for _ in range(2):
            refused = api.get("/workers", headers=wrong)
            assert "3 in 3,600 seconds" in problem(refused, 429, "rate-limited")["detail"]
            assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert api.get("/workers", headers=right).status_code == 200
        problem(api.get("/workers", headers=wrong | {"X-Forwarded-For": "192.0.2.9"}), 401)
        assert api.get("/health/live").status_code == 200


def test_credentials_of_a_proxy_are_no_guess(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with keyed(Settings(data_dir=tmp_path, failed_key_rate_limit="1/hour"), "right") as (api, _):
        for _ in range(3):
            answer = api.get("/session", headers={"Authorization": "Basic YTpi"}).raise_for_status()
            assert "Bearer" in answer.json()["refusal"]
    assert "bad API key" not in caplog.text


def test_the_key_that_was_bad_is_told_and_not_the_good_one_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with keyed(Settings(data_dir=tmp_path), "right") as (api, (right,)):
        cookie = "epochd_session=" + right["Authorization"].removeprefix("Bearer ")
        problem(api.post("/session", json={"key": WRONG}, headers={"Cookie": cookie}), 401)
    assert "a bad API key came from 127.0.0.1 (id nobody)" in caplog.text


def test_asking_who_one_is_with_a_wrong_key_counts_and_without_one_does_not(tmp_path: Path) -> None:
    with keyed(Settings(data_dir=tmp_path, failed_key_rate_limit="2/hour"), "right") as (api, (right,)):
        for _ in range(4):
            assert api.get("/session").json()["asks_for_key"] is True
        for wrong in ({"Authorization": f"Bearer {WRONG}"}, {"Cookie": f"epochd_session={WRONG}"}):
            assert "not known" in api.get("/session", headers=wrong).raise_for_status().json()["refusal"]
        problem(api.get("/session", headers=wrong), 429, "rate-limited")
        problem(api.get("/workers", headers=wrong), 429, "rate-limited")
        assert api.get("/session", headers=right).json()["name"] == "right"
        assert api.get("/session").status_code == 200


@pytest.mark.parametrize("rate", ["1/hour", ""])
def test_wrong_keys_leave_the_address_and_the_id_in_the_log_and_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rate: str
) -> None:
    with keyed(Settings(data_dir=tmp_path, failed_key_rate_limit=rate), "right") as (api, (right,)):
        for headers in ({}, right, {"Authorization": "Basic abc"}, {"X-Forwarded-For": "192.0.2.3"}):
            api.get("/workers", headers=headers)
        for address, key in (("192.0.2.1", WRONG), ("192.0.2.1", WRONG), ("192.0.2.2", "guessed")):
            api.get("/workers", headers={"Authorization": f"Bearer {key}", "X-Forwarded-For": address})
        api.post("/session", json={"key": WRONG}, headers={"X-Forwarded-For": "2001:db8::1"})
        api.get("/session", headers={"Cookie": f"epochd_session={WRONG}", "X-Forwarded-For": "192.0.2.4"})
    lines = [one.getMessage() for one in caplog.records if one.name == "epochd.api" and one.levelname == "WARNING"]
    assert lines == [
        "a bad API key came from 192.0.2.1 (id nobody)",
        "a bad API key came from 192.0.2.2",
        "a bad API key came from 2001:db8::1 (id nobody)",
        "a bad API key came from 192.0.2.4 (id nobody)",
        "1 more bad API keys came from 192.0.2.1 (last id nobody)",
    ]


class Clock:
    """Time that passes when a test says so, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_of_wrong_keys_has_a_line_for_each_address_in_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    tale = Tale(clock)

    def lines() -> list[str]:
        tale.flush()
        found = [one.getMessage() for one in caplog.records]
        caplog.clear()
        return found

    for _ in range(1000):
        tale.add("192.0.2.1", "one")
    assert lines() == ["a bad API key came from 192.0.2.1 (id one)"]
    clock.now = TELL_SECONDS
    assert lines() == ["999 more bad API keys came from 192.0.2.1 (last id one)"]
    for seconds in range(TELL_SECONDS - 1):
        clock.now = TELL_SECONDS + seconds
        tale.add("192.0.2.1", "")
    assert lines() == []
    clock.now = 2 * TELL_SECONDS
    assert lines() == ["59 more bad API keys came from 192.0.2.1"]
    clock.now = 3 * TELL_SECONDS
    assert lines() == []
    tale.add("192.0.2.1", "")
    assert lines() == ["a bad API key came from 192.0.2.1"]


def test_a_flood_from_everywhere_takes_so_many_lines_and_so_much_memory(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    tale = Tale(clock)
    for number in range(MOST_TOLD + 500):
        tale.add(f"2001:db8:{number:x}::1", "one")
        tale.add(f"2001:db8:{number:x}::2", "one")  # whoever has one address of a network has all
    assert len(tale._told) == MOST_TOLD + 1
    assert len(caplog.records) == MOST_TOLD + 1
    assert caplog.records[-1].getMessage() == "a bad API key came from other addresses (id one)"
    clock.now = TELL_SECONDS
    tale.flush()
    assert caplog.records[-1].getMessage() == "999 more bad API keys came from other addresses (last id one)"
    assert len(caplog.records) == 2 * (MOST_TOLD + 1)


@pytest.mark.parametrize("path", ["/predict", "/v2/models/best/infer"])
def test_predictions_are_refused_like_all_others(tmp_path: Path, path: str) -> None:
    with keyed(Settings(data_dir=tmp_path, failed_key_rate_limit="1/hour"), "right") as (api, _):
        problem(api.post(path, json={}), 401)
        problem(api.post(path, json={}), 429, "rate-limited")


@pytest.mark.parametrize("given", ["<script>", "fe80::1%<script>", "1" * 30_000, "::" + "0" * 44, "192.0.2.999"])
def test_what_is_no_address_is_not_taken_for_one(tmp_path: Path, given: str) -> None:
    with keyed(Settings(data_dir=tmp_path), "right") as (api, (right,)):
        made = api.post("/experiments", json=SPEC, headers=right | {"X-Forwarded-For": given}).json()
        with api.ports.database.read() as session:
            (entry,) = trail.page(session, target=made["id"], limit=1).entries
        assert entry.address is None


def test_a_value_of_any_size_is_not_remembered() -> None:
    before = addresses._is_address.cache_info().currsize
    assert not addresses.is_address("a" * 30_000)
    assert addresses._is_address.cache_info().currsize == before


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "0000:0000:0000:0000:0000:ffff:192.168.100.228"])
def test_an_address_is_taken_for_one(address: str) -> None:
    assert addresses.is_address(address)
