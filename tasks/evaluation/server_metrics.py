"""Read the time to first token from the metrics of a vLLM server."""

import math
from collections import defaultdict
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from intent_core.errors import ServingError

_FIRST_TOKEN = "vllm:time_to_first_token_seconds"

Buckets = Mapping[float, float]
"""Histogram: upper bound in seconds to the cumulative number of requests, up to infinity."""


def read_first_token(address: str, key: str) -> Buckets:
    """Return the server's histogram since its start. Raises `ServingError` if it fails."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        # Ignore proxies of the environment: the server is on loopback.
        with httpx.Client(trust_env=False) as client:
            answer = client.get(f"http://{address}/metrics", headers=headers).raise_for_status()
    except httpx.HTTPError as error:
        raise ServingError(f"could not read metrics from {address}: {error}") from error
    buckets: defaultdict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(answer.text):
        if family.name == _FIRST_TOKEN:
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    # Sum over the engines of the server.
                    buckets[float(sample.labels["le"])] += sample.value
    return buckets


def quantile_ms(before: Buckets, after: Buckets, share: float) -> float | None:
    """Return a quantile in milliseconds of the requests between two readings; None without any.

    Interpolates linearly within a bucket. As in Prometheus' `histogram_quantile`, a quantile in the
    last, unbounded bucket is the highest finite bound.
    """
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    total = counts.get(math.inf, 0.0)
    if total <= 0:
        return None
    wanted = share * total
    low, below = 0.0, 0.0
    for bound, count in counts.items():
        if count >= wanted:
            if math.isinf(bound):
                return low * 1000
            return (low + (bound - low) * (wanted - below) / (count - below)) * 1000
        low, below = bound, count
    return None
