"""Traces to a collector, once OTEL_EXPORTER_OTLP_ENDPOINT names one; nothing happens without.

The spans of flows and tasks are Prefect's own, those of requests vLLM's; ours is the training
program's.
"""

import contextlib
import functools
import os
from collections.abc import Iterator

from opentelemetry import propagate, trace


def traces_url() -> str:
    """Where spans go, "" for nowhere. The protocol is http/protobuf."""
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    return f"{base}/v1/traces" if base else ""


@functools.cache
def prepare_traces() -> None:
    """Export the spans of this process, the last ones at its end; a second call does nothing."""
    # Half a second to import, only where spans are exported.
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    session = requests.Session()
    session.trust_env = False  # no proxy and no .netrc: spans go to the endpoint only
    service = os.environ.get("OTEL_SERVICE_NAME", "intent-pipeline")
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=traces_url(), session=session)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


@contextlib.contextmanager
def traced(name: str) -> Iterator[None]:
    """A span around what happens here."""
    with trace.get_tracer("intent").start_as_current_span(name):
        yield


def trace_headers() -> dict[str, str]:
    """For a request that belongs to what goes on here; none without a trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def server_traces() -> tuple[dict[str, str], dict[str, str]]:
    """A vLLM server's options and environment for the same."""
    url = traces_url()
    if not url:
        return {}, {}
    protocol = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    return {"otlp-traces-endpoint": url}, {"OTEL_SERVICE_NAME": "intent-vllm", **protocol}
