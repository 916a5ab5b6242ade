"""A short form of `make fuzz`: damaged pictures and bodies, requests that no client would write, and the contract."""

from pathlib import Path

import psutil

from tests.acceptance.conftest import serving
from tests.fuzz.contract import explore
from tests.fuzz.requests import KINDS
from tests.fuzz.run import fuzz
from tests.fuzz.site import keys_of_each_scope, site
from tests.fuzz.wire import bombard

LIMITS_OF = ("PUT /models/{alias}", "GET /workers", "POST /v1/models/{model}:predict")
"""Operations whose limits are tried. Those of all take minutes: `make fuzz` does."""


def test_damaged_requests_get_a_problem_or_an_answer_and_no_memory(data_dir: Path) -> None:
    with serving(data_dir) as service:
        service.succeeded(service.create(activation="relu", depth=1, epochs=1)["id"])
        process = psutil.Process(service.process.pid)
        found = fuzz(service.url, 3000, 1, lambda: process.memory_info().rss)
    assert not found.wrong
    assert set(found.statuses) >= {200, 422}
    assert found.memory[-1] < 1.25 * found.memory[0]


def test_requests_that_no_client_would_write_get_a_problem_or_an_answer(tmp_path: Path, tiny_onnx: bytes) -> None:
    with site(tmp_path / "data", tiny_onnx) as (service, known):
        found = bombard(service.url, cases=40 * len(KINDS), seed_=1, known=known)
        assert service.get(known)["status"] == "succeeded"
    assert not found.failures, str(found)
    assert found.cases.keys() == KINDS.keys()
    assert set(found.statuses) >= {200, 400, 404, 405, 415, 422}


def test_the_api_keeps_to_its_description_whoever_asks(tmp_path: Path, tiny_onnx: bytes) -> None:
    with site(tmp_path / "data", tiny_onnx) as (service, _):
        found = explore(service.url, seed=1, examples=1, guarded=False, phases=("examples", "fuzzing"))
        assert not found.failures, str(found)
        assert found.cases.keys() == {"examples", "fuzzing"}
        chains = explore(service.url, seed=1, examples=10, guarded=False, phases=("stateful",))
        assert not chains.failures, str(chains)
        assert set(chains.statuses) >= {200, 202, 404}
        tokens = keys_of_each_scope(service, tmp_path / "data")
        nobody = explore(service.url, seed=1, examples=1, phases=("fuzzing",))
        assert not nobody.failures, str(nobody)
        assert nobody.statuses[401] > nobody.cases.total() / 2
        for scope, token in tokens.items():
            found = explore(service.url, seed=1, examples=1, token=token, phases=("fuzzing",))
            assert not found.failures, str(found)
            assert (403 in found.statuses) == (scope != "admin")
        limits = explore(service.url, seed=1, examples=1, token=tokens["admin"], phases=("coverage",), only=LIMITS_OF)
        assert not limits.failures, str(limits)
        assert limits.cases["coverage"] > 0
