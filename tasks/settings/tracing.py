"""Export of traces to the collector at OTEL_EXPORTER_OTLP_ENDPOINT; if not set, do nothing.

Prefect creates the spans of flows and tasks, vLLM those of requests, and we create the span of the
training program.
"""

import contextlib
import functools
import os
from collections.abc import Iterator

from opentelemetry import propagate, trace


def traces_url() -> str:
    """Return the URL of the collector (http/protobuf), or "" if none is set."""
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    return f"{base}/v1/traces" if base else ""


@functools.cache
def prepare_traces() -> None:
    """Export the spans of this process, the last ones when it exits. Repeated calls do nothing."""
    # The imports take 0.5 s, so do them only if spans are exported.
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    session = requests.Session()
    session.trust_env = False  # ignore proxies and .netrc: send spans only to the endpoint
    service = os.environ.get("OTEL_SERVICE_NAME", "intent-pipeline")
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=traces_url(), session=session)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


@contextlib.contextmanager
def traced(name: str) -> Iterator[None]:
    """Record the block as a span."""
    with trace.get_tracer("intent").start_as_current_span(name):
        yield


def trace_headers() -> dict[str, str]:
    """Return headers that link a request to the current span; empty without one."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def server_traces() -> tuple[dict[str, str], dict[str, str]]:
    """Return options and environment of a vLLM server that export its spans to the collector."""
    url = traces_url()
    if not url:
        return {}, {}
    protocol = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    return {"otlp-traces-endpoint": url}, {"OTEL_SERVICE_NAME": "intent-vllm", **protocol}
