"""Prometheus metrics, which vLLM's /metrics endpoint exports together with its own.

Label values come from files, statuses and reasons only, never from text in a request.
"""

import functools
from collections import Counter
from collections.abc import Callable

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram

from intent_core.errors import CallSyntaxError
from intent_core.language.calls import is_plain, parse_calls
from intent_core.language.invisible import strip_invisible
from intent_core.serving.protocol.errors import Cause

_MOST_MODELS = 1000
"""Maximum number of in-flight series per process; further models share the series `other`."""

_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = prometheus_client.Counter(
            "intent_requests",
            "Completed requests, including refused ones.",
            ["alias", "version", "caller", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "intent_request_seconds",
            "Seconds from passing a request to the model until the end of its answer.",
            ["alias", "version"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._parse_failures = prometheus_client.Counter(
            "intent_parse_failures",
            "Chat answers that do not parse as calls.",
            ["alias", "version"],
            registry=registry,
        )
        self._refused = prometheus_client.Counter(
            "intent_refused_requests",
            "Requests refused by the middleware before they reached the model.",
            ["reason"],
            registry=registry,
        )
        self._in_flight_gauge = Gauge(
            "intent_requests_in_flight",
            "Requests currently being answered by the model.",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._dropped_grammars = prometheus_client.Counter(
            "intent_dropped_grammars",
            "Requests to a grounded model that were answered without a grammar, by the reason: "
            "`not_written` by the middleware, or `not_usable` by vLLM.",
            ["reason"],
            registry=registry,
        )
        self._trial_requests = prometheus_client.Counter(
            "intent_trial_requests",
            "Requests in a canary or shadow trial, by outcome of the candidate's answer.",
            ["alias", "version", "mode", "outcome"],
            registry=registry,
        )
        self._trials_ended = prometheus_client.Counter(
            "intent_trials_ended",
            "Trials that ended because a limit was exceeded.",
            ["alias", "model", "limit"],
            registry=registry,
        )
        self._served_aliases = Gauge(
            "intent_served_aliases",
            "Aliases that currently refer to a model; 0 before the first promotion.",
            registry=registry,
            multiprocess_mode="max",
        )
        self._in_flight: Counter[str] = Counter()
        self._models_seen: set[str] = set()

    def count_request(self, alias: str, version: str, caller: str, status: int) -> None:
        self._requests.labels(alias, version, caller, status).inc()

    def time_request(self, alias: str, version: str, seconds: float) -> None:
        self._seconds.labels(alias, version).observe(seconds)

    def count_refusal(self, reason: Cause) -> None:
        self._refused.labels(reason.name.lower()).inc()

    def judge_answer(self, alias: str, version: str, text: str) -> None:
        """Count an answer that does not parse as calls."""
        if is_plain(text):
            return
        try:
            parse_calls(strip_invisible(text))
        except CallSyntaxError:
            self._parse_failures.labels(alias, version).inc()

    def count_dropped_grammar(self, reason: str) -> None:
        self._dropped_grammars.labels(reason).inc()

    def count_trial_request(self, alias: str, version: str, mode: str, outcome: str) -> None:
        self._trial_requests.labels(alias, version, mode, outcome).inc()

    def count_trial_end(self, alias: str, model: str, limit: str) -> None:
        self._trials_ended.labels(alias, model, limit).inc()

    def follow_aliases(self, count: Callable[[], int]) -> None:
        """Set the function that returns the number of aliases, called at every scrape."""
        self._served_aliases.set_function(count)

    def enter(self, model: str) -> None:
        self._in_flight[model] += 1
        self._in_flight_gauge.labels(self._series(model)).inc()

    def leave(self, model: str) -> None:
        self._in_flight[model] -= 1
        if not self._in_flight[model]:
            del self._in_flight[model]
        self._in_flight_gauge.labels(self._series(model)).dec()

    def read_in_flight(self) -> dict[str, int]:
        """Return the number of requests in flight by model; idle models are omitted."""
        return dict(self._in_flight)

    def _series(self, model: str) -> str:
        if model not in self._models_seen:
            if len(self._models_seen) >= _MOST_MODELS:
                return "other"
            self._models_seen.add(model)
        return model


@functools.cache
def process_metrics() -> Metrics:
    """Return the metrics in the default registry, which accepts each name only once."""
    return Metrics(prometheus_client.REGISTRY)
