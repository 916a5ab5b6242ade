"""Settings: what is taken, and what is refused before anything starts."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("name", [name for name, one in Settings.model_fields.items() if one.annotation is not str])
def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch, name: str, empty: str) -> None:
    default = getattr(Settings(), name)
    monkeypatch.setenv(f"EPOCHD_{name.upper()}", empty)
    assert getattr(Settings(), name) == default


def test_a_limit_that_is_text_may_be_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHD_FAILED_KEY_RATE_LIMIT", "")
    assert Settings().failed_key_rate_limit == ""


def test_json_of_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHD_RAY_RESOURCES", '{"highmem": 1, "half": 0.5}')
    monkeypatch.setenv("EPOCHD_ALLOWED_HOSTS", '["digits.example.org"]')
    found = Settings()
    assert found.ray_resources == {"highmem": 1, "half": 0.5}
    assert found.allowed_hosts == ["digits.example.org"]


def test_what_a_child_is_given_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(ray_resources={"highmem": 2}, allowed_hosts=["a.example"], rate_limit="", failed_key_rate_limit="")
    for name, value in given.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == given


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RAY_RESOURCES", "{highmem:1}", "it has to be JSON"),
        ("RAY_RESOURCES", '{"CPU": 0.5}', "EPOCHD_RAY_CPUS"),
        ("RAY_RESOURCES", '{"memory": 5}', "no name"),
        ("RAY_RESOURCES", '{"": 1}', "no name"),
        ("RAY_RESOURCES", '{"highmem": -1}', "greater than 0"),
        ("RAY_RESOURCES", '{"highmem": NaN}', "finite"),
        ("RAY_RESOURCES", '{"highmem": Infinity}', "finite"),
        ("RAY_RESOURCES", '{"highmem": 1.5}', "whole"),
        ("RAY_CPUS", "inf", "finite"),
        ("RAY_GPUS", "nan", "greater than or equal|finite"),
        ("STALL_SECONDS", "inf", "finite"),
        ("IDEMPOTENCY_HOURS", "inf", "finite"),
        ("ALLOWED_HOSTS", "digits.example.org", "it has to be JSON"),
    ],
)
def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(f"EPOCHD_{name}", value)
    with pytest.raises(ValidationError, match=says):
        Settings()
