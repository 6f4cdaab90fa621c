"""A trace collector on loopback that accepts OTLP over HTTP."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collected(NamedTuple):
    """One span, and the service that reported it."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    status: int


class Collector:
    """The collected spans."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Collected] = []

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in group.resource.attributes}
            for scope in group.scope_spans:
                for span in scope.spans:
                    ids = (span.trace_id, span.span_id, span.parent_span_id)
                    told = (names["service.name"], span.name, *(one.hex() for one in ids))
                    self.spans.append(Collected(*told, span.status.code))

    def named(self, start: str) -> Collected:
        """Return the first span whose name starts with `start`."""
        return next(span for span in self.spans if span.name.startswith(start))


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            known = self.path == "/v1/traces"
            if known and self.headers["content-type"] == "application/x-protobuf":
                collector.take(body)
            self.send_response(200 if known else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Do not log to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()
