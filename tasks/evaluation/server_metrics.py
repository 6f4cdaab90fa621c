"""What a vLLM server measures of itself: the time to an answer's first token."""

import math
from collections import defaultdict
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from intent_core.errors import ServingError

_FIRST_TOKEN = "vllm:time_to_first_token_seconds"

Buckets = Mapping[float, float]
"""Requests by the seconds they took at most; cumulative, up to infinity."""


def read_first_token(address: str, key: str) -> Buckets:
    """The server's histogram since its start. `ServingError` when it gives none."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        # Proxies of the environment are not for loopback.
        with httpx.Client(trust_env=False) as client:
            answer = client.get(f"http://{address}/metrics", headers=headers).raise_for_status()
    except httpx.HTTPError as error:
        raise ServingError(f"{address} shows no metrics: {error}") from error
    buckets: defaultdict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(answer.text):
        if family.name == _FIRST_TOKEN:
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    # One for each of the engines that share the work.
                    buckets[float(sample.labels["le"])] += sample.value
    return buckets


def quantile_ms(before: Buckets, after: Buckets, share: float) -> float | None:
    """A quantile of the requests between two readings, in milliseconds, linear within its bucket.

    As Prometheus' `histogram_quantile`: beyond the last bound it is that bound.
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
