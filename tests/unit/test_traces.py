"""Traces: nothing is imported while they are off, and what is missing is told."""

import subprocess
import sys

import pytest

from service.errors import NotInstalled
from service.telemetry import traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_while_they_are_off_nothing_that_sends_them_is_imported() -> None:
    program = (
        "import sys, service.main, service.engines.trainer\n"
        "from service.telemetry import traces\n"
        "with traces.started(False, 'api'), traces.span('one', parent=None) as one: assert one is None\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_span_is_nothing_while_they_are_off() -> None:
    assert traces.begin("one", parent=PARENT) is None
    assert traces.current() is None
    with traces.span("one") as one, traces.within(one):
        traces.event(one, "epoch", {"epoch": 1})
    assert not traces.active()


def test_without_the_extra_the_service_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with (
        pytest.raises(NotInstalled, match=r"pip install 'epochd\[otel\]'"),
        traces.started(True, "api"),
    ):
        pass


@pytest.mark.parametrize(
    ("traceparent", "good"),
    [
        (PARENT, True),
        (PARENT.replace("-01", "-00"), True),
        ("cc" + PARENT[2:], True),
        ("ff" + PARENT[2:], False),
        (PARENT + "-more", False),
        (PARENT + "\n", False),
        (PARENT.replace("b7ad6b7169203331", "0" * 16), False),
        ("", False),
    ],
)
def test_a_traceparent_is_good_or_not(traceparent: str, good: bool) -> None:
    assert traces.valid(traceparent) is good
