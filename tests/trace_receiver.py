"""A receiver of OpenTelemetry traces, which keeps them."""

from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Receiver", "Span"]


@dataclass(frozen=True)
class Span:
    """A span as the receiver got it."""

    name: str
    part: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    events: list[str]


class Receiver:
    """Takes traces as a collector does: protobuf by HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.spans += [
                Span(
                    name=span.name,
                    part=about["epochd.part"],
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    attributes={a.key: a.value.string_value or a.value.int_value for a in span.attributes},
                    events=[event.name for event in span.events],
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
