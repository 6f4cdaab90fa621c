"""Spans as OTLP's messages, posted to a collector.

OpenTelemetry's own exporter is no part of the pipeline's environment; its message format is.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext

_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_TIMEOUT_S = 5

logger = logging.getLogger(__name__)


def make_provider(url: str) -> TracerProvider:
    """What collects this process's spans and sends them there, the last at its end."""
    service = os.environ.get("OTEL_SERVICE_NAME", "intent-pipeline")
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OtlpExporter(url)))
    return provider


class OtlpExporter(SpanExporter):
    """Posts spans; a collector that is away costs a line in the log and nothing else."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._headers = {"content-type": "application/x-protobuf", **_read_headers()}

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = to_request(spans).SerializeToString()
        try:
            httpx.post(
                self._url, content=body, headers=self._headers, timeout=_TIMEOUT_S, trust_env=False
            ).raise_for_status()
        except httpx.HTTPError as error:
            logger.warning("%s did not take %d spans: %s", self._url, len(spans), error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def to_request(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """OTLP's message: one group a span's resource and scope."""
    groups = [
        ResourceSpans(
            resource=ResourceMessage(attributes=_attributes(span.resource.attributes)),
            scope_spans=[
                ScopeSpans(scope=InstrumentationScope(name=_scope(span)), spans=[_to_span(span)])
            ],
        )
        for span in spans
    ]
    return ExportTraceServiceRequest(resource_spans=groups)


def _to_span(span: ReadableSpan) -> Span:
    context: SpanContext = span.get_span_context()  # type: ignore[assignment]  # it has ended
    events = [
        Span.Event(
            time_unix_nano=event.timestamp,
            name=event.name,
            attributes=_attributes(event.attributes),
        )
        for event in span.events
    ]
    return Span(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        parent_span_id=span.parent.span_id.to_bytes(8, "big") if span.parent else b"",
        name=span.name,
        # The SDK counts from 0, the message from 1.
        kind=Span.SpanKind.ValueType(span.kind.value + 1),
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        attributes=_attributes(span.attributes),
        events=events,
        status=Status(
            code=Status.StatusCode.ValueType(span.status.status_code.value),
            message=span.status.description or "",
        ),
    )


def _attributes(found: Mapping[str, object] | None) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in (found or {}).items()]


def _value(value: object) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return AnyValue(string_value=text)


def _scope(span: ReadableSpan) -> str:
    return span.instrumentation_scope.name if span.instrumentation_scope else ""


def _read_headers() -> dict[str, str]:
    """`key=value,key=value`, as the standard has it; a collector's own key, say."""
    pairs = (pair.partition("=") for pair in os.environ.get(_HEADERS, "").split(",") if "=" in pair)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
