"""What trainers are told of our environment."""

import pytest

from service.engines.environment import log_format, traces_wanted, without_secrets


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHD_DATABASE_URL", "postgresql://epochd:hunter2@db/epochd")
    monkeypatch.setenv("EPOCHD_LOG_FORMAT", "json")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    monkeypatch.delenv("EPOCHD_OTEL", raising=False)


def test_a_trainer_knows_how_to_write_its_log_and_no_database() -> None:
    given = without_secrets()
    assert given["EPOCHD_LOG_FORMAT"] == log_format() == "json"
    assert "EPOCHD_DATABASE_URL" not in given


def test_a_trainer_knows_the_collector_while_it_sends_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not traces_wanted()
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in without_secrets()
    monkeypatch.setenv("EPOCHD_OTEL", "True")
    assert traces_wanted()
    assert without_secrets()["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=secret"
