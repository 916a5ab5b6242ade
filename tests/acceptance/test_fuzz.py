"""A short form of `make fuzz`: damaged pictures and bodies for every way to predict."""

from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import serving
from tests.fuzz.run import fuzz

pytestmark = pytest.mark.slow


def test_damaged_requests_get_a_problem_or_an_answer_and_no_memory(data_dir: Path) -> None:
    with serving(data_dir) as service:
        service.succeeded(service.create(activation="relu", depth=1, epochs=1)["id"])
        process = psutil.Process(service.process.pid)
        found = fuzz(service.url, 3000, 1, lambda: process.memory_info().rss)
    assert not found.wrong
    assert set(found.statuses) >= {200, 422}
    assert found.memory[-1] < 1.25 * found.memory[0]
