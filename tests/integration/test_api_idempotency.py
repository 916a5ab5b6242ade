"""POST /experiments with an Idempotency-Key: however often it is sent, one experiment is queued."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from service.settings import Settings
from service.store import idempotency
from service.store.tables import IdempotencyRow, database_now
from tests.integration.conftest import Api, problem, serving

SPEC = {"activation": "relu", "depth": 1}


def post(api: Api, key: str | None, **spec: Any) -> httpx.Response:
    return api.post("/experiments", json=SPEC | spec, headers={"Idempotency-Key": key} if key is not None else {})


def queued(api: Api) -> list[str]:
    return [experiment["id"] for experiment in api.get("/experiments", params={"limit": 200}).json()["data"]]


def age(api: Api, hours: float) -> None:
    """Make every stored answer this much older."""
    with api.ports.database.write() as session:
        session.execute(update(IdempotencyRow).values(created_at=database_now(-3600 * hours)))


def test_a_repeated_request_gets_the_first_answer_again(api: Api) -> None:
    first, again = post(api, "k", tags=["a"]), post(api, "k", tags=["a"])
    assert (again.status_code, again.content) == (first.status_code, first.content) == (202, first.content)
    for header in ("location", "retry-after", "content-type"):
        assert again.headers[header] == first.headers[header]
    assert queued(api) == [first.json()["id"]]


def test_the_first_answer_is_given_even_when_the_experiment_has_moved_on(api: Api) -> None:
    first = post(api, "k").json()
    api.post(first["links"]["cancel"]).raise_for_status()
    assert post(api, "k").json() == first
    api.delete(first["links"]["self"]).raise_for_status()
    assert post(api, "k").json() == first
    assert queued(api) == []


def test_the_same_spec_written_otherwise_is_the_same_request(api: Api) -> None:
    first = post(api, "k").json()
    written = b'{ "depth":1,\n"units": 16, "activation":"relu", "learning_rate": 1e-3}'
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    assert api.post("/experiments", content=written, headers=headers).json() == first


@pytest.mark.parametrize("other", [{"depth": 2}, {"seed": 1}, {"name": "x"}, {"tags": ["a"]}])
def test_the_same_key_with_another_body_is_refused(api: Api, other: dict[str, Any]) -> None:
    first = post(api, "k")
    found = problem(post(api, "k", **other), 422, "idempotency-key-reused")
    assert found["errors"][0]["location"] == "header"
    assert post(api, "k").content == first.content
    assert len(queued(api)) == 1


def test_other_keys_and_no_key_are_other_requests(api: Api) -> None:
    made = [post(api, key).json()["id"] for key in ("k", "K", "k2", None, None)]
    assert len(set(made)) == 5
    assert sorted(queued(api)) == sorted(made)


def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    problem(post(api, "k", depth=0), 422)
    problem(post(api, "k", depth=64, units=1024), 422, "spec-too-large")
    assert post(api, "k").status_code == 202


def test_a_request_that_failed_inside_leaves_its_key_free(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("after the key was taken")

    with monkeypatch.context() as patch:
        patch.setattr("service.api.experiments.experiments.create", fail)
        problem(post(api, "k"), 500)
    assert "after the key was taken" in caplog.text
    assert post(api, "k").status_code == 202
    assert len(queued(api)) == 1


@pytest.mark.parametrize("threads", [2, 12])
def test_of_many_equal_requests_at_once_one_queues(api: Api, threads: int) -> None:
    for turn in range(4):
        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(lambda _, key: post(api, key), range(threads), [f"k{turn}"] * threads))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        assert len(queued(api)) == turn + 1


def test_of_different_requests_with_one_key_at_once_one_queues(api: Api) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: post(api, "k", seed=seed), range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [422] * 7
    assert len(queued(api)) == 1


def test_many_keys_at_once_are_all_queued(api: Api) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: post(api, f"k{number}"), range(40)))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(queued(api)) == sorted(answer.json()["id"] for answer in answers)


def test_a_request_whose_first_is_not_answered_for_long_is_told(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PostgreSQL alone: SQLite has one writer at a time, so the first has ended before the second begins.
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.2)
    with serving(Settings(data_dir=tmp_path, database_url=postgres_url)) as api:
        with api.ports.database.write() as session:
            idempotency.once(session, "k", fingerprint="first", keep_hours=1, act=lambda: {"in": "flight"})
            problem(post(api, "k"), 409, "idempotency-key-in-flight")
        problem(post(api, "k"), 422, "idempotency-key-reused")
        assert queued(api) == []


@pytest.mark.parametrize("key", ["a", "a" * 255, "~!@#$%^&*()", "019304a2-7b1c-7d3e-8f00-0123456789ab", '"quoted"'])
def test_any_visible_text_is_a_key(api: Api, key: str) -> None:
    assert post(api, key).json() == post(api, key).json()
    assert len(queued(api)) == 1


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "a\tb", "\xe4"])
def test_another_key_is_refused(empty_api: Api, key: str) -> None:
    request = empty_api.build_request("POST", "/experiments", json=SPEC)
    request.headers = httpx.Headers([*request.headers.raw, (b"Idempotency-Key", key.encode("latin-1"))])
    found = problem(empty_api.send(request), 422, "invalid-request")["errors"][0]
    assert (found["location"], found["pointer"]) == ("header", "/idempotency-key")


def test_a_key_is_kept_for_as_long_as_the_operator_says_and_no_longer(api: Api) -> None:
    hours = api.ports.settings.idempotency_hours
    first = post(api, "k")
    age(api, hours - 0.1)
    assert post(api, "k").content == first.content
    age(api, hours + 0.1)
    second = post(api, "k", depth=2)
    assert second.status_code == 202
    assert post(api, "k", depth=2).content == second.content
    assert len(queued(api)) == 2
