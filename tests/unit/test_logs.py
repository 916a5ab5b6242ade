"""Logs: a line is whole, says what it is about, and holds no secret."""

import json
import logging
import sys
import threading

import pytest

from service.telemetry import logs
from service.telemetry.logs import Format


@pytest.fixture(autouse=True)
def _of_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that another test ran in this process has left its name."""
    monkeypatch.setattr(logs, "_of_process", {})


def fail() -> None:
    raise RuntimeError("no way to postgresql://epochd:hunter2@db/epochd")


def record(message: str, *args: object, error: bool = False, **extra: object) -> logging.LogRecord:
    try:
        fail()
    except RuntimeError:
        info = sys.exc_info()
    made = logging.getLogger("epochd.test").makeRecord(
        "epochd.test", logging.WARNING, "file", 1, message, args, info if error else None, extra=extra or None
    )
    assert isinstance(made, logging.LogRecord)
    return made


def line(form: Format, made: logging.LogRecord, who: str | None = None) -> str:
    return logs._Formatter(form, who).format(made)


def test_a_line_of_json_has_what_machines_look_for() -> None:
    found = json.loads(line("json", record("%d of %d", 1, 2, route="/predict", _library_timestamp_ns=7)))
    assert found.keys() == {"event", "level", "logger", "route", "timestamp"}
    assert (found["event"], found["level"], found["logger"]) == ("1 of 2", "warning", "epochd.test")
    assert found["timestamp"].endswith("Z")


def test_a_line_of_text_looks_as_it_always_did() -> None:
    assert line("text", record("hello")).split(" ", 2)[2] == "WARNING epochd.test hello"
    assert line("text", record("hello"), "trainer 7").split(" ", 2)[2] == "trainer 7 WARNING hello"


def test_a_line_says_which_attempt_it_is_about_in_its_own_thread_alone() -> None:
    others: list[str] = []
    with logs.about(experiment_id="one", attempt=2):
        found = json.loads(line("json", record("ends")))
        thread = threading.Thread(target=lambda: others.append(line("json", record("ends"))))
        thread.start()
        thread.join()
    assert (found["experiment_id"], found["attempt"]) == ("one", 2)
    assert "experiment_id" not in json.loads(others[0])
    assert "experiment_id" not in json.loads(line("json", record("ends")))


def test_a_line_says_which_request_it_is_about() -> None:
    token = logs.REQUEST.set({"request_id": "mine"})
    try:
        assert json.loads(line("json", record("fails")))["request_id"] == "mine"
        assert line("text", record("fails")).endswith("fails (request mine)")
    finally:
        logs.REQUEST.reset(token)


def test_an_error_is_told_whole_in_one_line_of_json() -> None:
    written = line("json", record("failed", error=True))
    assert "\n" not in written
    assert "RuntimeError: no way to" in json.loads(written)["exception"]
    assert "RuntimeError: no way to" in line("text", record("failed", error=True))


KEY = "epochd_a1b2c3_" + "Zx9-_" * 8


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("hunter2", "postgresql://epochd:hunter2@db/epochd cannot be reached"),
        ("p@ss/word", "postgresql+psycopg://epochd:p@ss/word@db:5432/epochd"),
        ("Zx9-", f"the key {KEY} is unknown"),
        ("abcdefgh", "Authorization: Bearer abcdefgh12345678"),
        ("abcdefgh", "{'authorization': 'Bearer abcdefgh12345678'}"),
        ("abcdefgh", '{"aws_secret_access_key": "abcdefgh1234"}'),
        ("abcdefgh", "password=abcdefgh host=db"),
        ("abcdefgh", "https://store/?sig=abcdefgh&x=1"),
    ],
)
def test_no_line_holds_a_secret(form: Format, secret: str, message: str) -> None:
    assert secret not in line(form, record(message))
    assert secret not in line(form, record("what was sent: %s", message, given=message))


def test_nor_does_an_errors_text() -> None:
    for form in ("text", "json"):
        written = line(form, record("failed", error=True))
        assert "hunter2" not in written
        assert "postgresql://epochd:***@db/epochd" in written


@pytest.mark.parametrize("harmless", ["http://127.0.0.1:8000/docs", "file:///data/blobs", "epochs 3 of 10: ok"])
def test_what_is_no_secret_is_left_as_it_is(harmless: str) -> None:
    assert logs.redact(harmless) == harmless
