"""Traces by OpenTelemetry, when they are switched on. Otherwise nothing of it is imported, and nothing is paid.

A trace goes from the request that queues an experiment to the trainer: its `traceparent`
(https://www.w3.org/TR/trace-context/) is stored with the experiment and handed on with the job.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.errors import NotInstalled

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

__all__ = ["Attributes", "active", "begin", "current", "event", "span", "started", "valid", "within"]

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
FLUSH_MILLIS = 3_000

Attributes = Mapping[str, str | bool | int | float]

_tracer: "Tracer | None" = None


def valid(traceparent: str) -> bool:
    """Whether this is a `traceparent`, as the header of the first version is spelled."""
    return TRACEPARENT.fullmatch(traceparent) is not None


@contextlib.contextmanager
def started(wanted: bool, part: str) -> Iterator[None]:
    """Trace while the block runs, if that is wanted, as the `OTEL_*` variables say. At the end what waits is sent.
    `part` is the kind of process: `api`, `worker` or `trainer`.

    Raises:
        NotInstalled: OpenTelemetry is not here.
    """
    global _tracer
    if not wanted:
        yield
        return
    provider = _provider(part)
    _tracer = provider.get_tracer("epochd")
    try:
        yield
    finally:
        _tracer = None
        provider.force_flush(FLUSH_MILLIS)
        provider.shutdown()


def active() -> bool:
    """Whether anything is traced."""
    return _tracer is not None


@contextlib.contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
    kind: str = "internal",
    attributes: Attributes | None = None,
) -> "Iterator[Span | None]":
    """A span for the block, under `parent`, a `traceparent`, or under the current one. None when nothing is traced."""
    if _tracer is None:
        yield None
        return
    one = begin(name, parent=parent, links=links, kind=kind, attributes=attributes)
    assert one is not None  # noqa: S101 - there is a tracer
    from opentelemetry import trace

    with trace.use_span(one, end_on_exit=True):
        yield one


def begin(
    name: str,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
    kind: str = "internal",
    attributes: Attributes | None = None,
    since: datetime | None = None,
) -> "Span | None":
    """A span that whoever asks for it ends; it may have begun earlier. None when nothing is traced."""
    if _tracer is None:
        return None
    from opentelemetry.trace import Link, SpanKind, get_current_span

    linked = [Link(get_current_span(_context(one)).get_span_context()) for one in links]
    return _tracer.start_span(
        name,
        context=_context(parent) if parent else None,
        kind=SpanKind[kind.upper()],
        links=linked,
        attributes=dict(attributes or {}),
        start_time=int(since.timestamp() * 1e9) if since else None,
    )


@contextlib.contextmanager
def within(one: "Span | None") -> Iterator[None]:
    """Spans of the block are children of this one."""
    if one is None:
        yield
        return
    from opentelemetry import trace

    with trace.use_span(one, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        yield


def current(one: "Span | None" = None) -> str | None:
    """The `traceparent` of this span, or of the current one; None when there is none."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    found = (one or trace.get_current_span()).get_span_context()
    if not found.is_valid:
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def event(one: "Span | None", name: str, attributes: Mapping[str, Any]) -> None:
    """Something happened within a span. What has no value is left out."""
    if one is not None:
        one.add_event(name, {key: value for key, value in attributes.items() if value is not None})


def _context(traceparent: str) -> Any:  # noqa: ANN401 - OpenTelemetry's
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _provider(part: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise NotInstalled(
            "OpenTelemetry is not installed, so EPOCHD_OTEL=true cannot be: pip install 'epochd[otel]'"
        ) from None
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before.
    resource = Resource({"service.name": "epochd", "epochd.part": part}).merge(Resource.create())
    if resource.attributes["service.name"] == "unknown_service":
        resource = resource.merge(Resource({"service.name": "epochd"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
