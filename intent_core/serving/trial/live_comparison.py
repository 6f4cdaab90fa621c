"""Compares the live answers and latencies of candidate and champion."""

import math
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from intent_core.errors import CallSyntaxError
from intent_core.language.calls import Call, parse_calls, sort_named
from intent_core.serving.access.aliases import Trial

_KEPT = 1000
"""Number of most recent latencies per model from which percentiles are computed."""


class PairOutcome(Enum):
    """The outcome of one of the candidate's requests."""

    ANSWERED = "answered"
    """Answered in a canary trial, where there is no champion's answer to compare with."""
    SAME = "same"
    DIFFERS = "differs"
    UNKNOWN_INTENT = "unknown_intent"
    PARSE_FAILURE = "parse_failure"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not judged: a copy was not sent, or the request differs from those of the evaluation."""


@dataclass(frozen=True)
class JudgedAnswer:
    """The parsed calls and the latency of an answer."""

    calls: tuple[tuple[Call, ...], ...] | None
    """The calls of each choice, as they are compared; None if one of them does not parse."""
    seconds: float | None
    """None if the request failed."""


FAILED = JudgedAnswer(calls=None, seconds=None)


def judge(
    status: int, texts: Sequence[str], seconds: float, expects_calls: bool
) -> JudgedAnswer | None:
    """Judge an answer; None if it is not the model's: a caller's error or a disconnect."""
    # vLLM returns 404 for a model that it cannot load.
    if status >= 500 or status == 404:
        return FAILED
    if status != 200 or (expects_calls and not texts):
        return None
    return judge_texts(texts, seconds)


def judge_texts(texts: Sequence[str], seconds: float) -> JudgedAnswer:
    try:
        return JudgedAnswer(tuple(sort_named(parse_calls(text)) for text in texts), seconds)
    except CallSyntaxError:
        return JudgedAnswer(None, seconds)


class RecentSeconds:
    """The most recent latencies in seconds, kept sorted."""

    def __init__(self) -> None:
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        if len(self._in_order) == _KEPT:
            del self._sorted[bisect_left(self._sorted, self._in_order.popleft())]
        self._in_order.append(seconds)
        insort(self._sorted, seconds)

    def read_p95(self) -> float | None:
        """Return the p95 latency in seconds (nearest rank); None if there are no values."""
        return self._sorted[math.ceil(len(self._sorted) * 0.95) - 1] if self._sorted else None


class Side:
    """Counts and latencies of one of the two models."""

    def __init__(self, known_intents: frozenset[str]) -> None:
        self._known = known_intents
        self._outcomes: Counter[PairOutcome] = Counter()
        self._seconds = RecentSeconds()

    def take(self, answer: JudgedAnswer) -> PairOutcome:
        outcome = self._find_outcome(answer)
        self._outcomes[outcome] += 1
        if answer.seconds is not None:
            self._seconds.add(answer.seconds)
        return outcome

    @property
    def requests(self) -> int:
        return self._outcomes.total()

    @property
    def parse_failure_rate(self) -> float | None:
        failures = self._outcomes[PairOutcome.PARSE_FAILURE] + self._outcomes[PairOutcome.FAILED]
        return divide(failures, self.requests)

    @property
    def unknown_intent_rate(self) -> float | None:
        return divide(
            self._outcomes[PairOutcome.UNKNOWN_INTENT], self.requests if self._known else 0
        )

    @property
    def latency_p95(self) -> float | None:
        return self._seconds.read_p95()

    def describe(self) -> dict[str, object]:
        return {
            "requests": self.requests,
            "parse_failure_rate": self.parse_failure_rate,
            "unknown_intent_rate": self.unknown_intent_rate,
            "latency_p95_s": self.latency_p95,
        }

    def _find_outcome(self, answer: JudgedAnswer) -> PairOutcome:
        if answer.seconds is None:
            return PairOutcome.FAILED
        if answer.calls is None:
            return PairOutcome.PARSE_FAILURE
        intents = {call.intent for calls in answer.calls for call in calls}
        if self._known and not intents <= self._known:
            return PairOutcome.UNKNOWN_INTENT
        return PairOutcome.ANSWERED


class Comparison:
    """The comparison of both models in one trial."""

    def __init__(self, trial: Trial) -> None:
        known = frozenset(trial.known_intents)
        self._limits = trial.limits
        self._pairs = 0
        self._differing = 0
        self.candidate = Side(known)
        self.champion = Side(known)

    def take_pair(self, champion: JudgedAnswer, candidate: JudgedAnswer) -> PairOutcome:
        """Record and compare the two models' answers to the same request."""
        self.champion.take(champion)
        outcome = self.candidate.take(candidate)
        differs = champion.calls != candidate.calls
        self._pairs += 1
        self._differing += differs
        if outcome is PairOutcome.ANSWERED:
            outcome = PairOutcome.DIFFERS if differs else PairOutcome.SAME
        return outcome

    @property
    def disagreement_rate(self) -> float | None:
        return divide(self._differing, self._pairs)

    @property
    def latency_ratio_p95(self) -> float | None:
        candidate, champion = self.candidate.latency_p95, self.champion.latency_p95
        return divide(candidate, champion or 0) if candidate is not None else None

    def find_passed_limit(self) -> tuple[str, float, float] | None:
        """Return (name, value, limit) of a limit that is exceeded; None if there is none."""
        if self.candidate.requests < self._limits.min_requests:
            return None
        for name, value, limit in self._values():
            if value is not None and limit is not None and value > limit:
                return name, value, limit
        return None

    def describe(self) -> dict[str, object]:
        return {
            **self.candidate.describe(),
            "disagreement_rate": self.disagreement_rate,
            "latency_ratio_p95": self.latency_ratio_p95,
            "champion": self.champion.describe(),
        }

    def _values(self) -> Iterator[tuple[str, float | None, float | None]]:
        limits, candidate = self._limits, self.candidate
        failures, unknown = candidate.parse_failure_rate, candidate.unknown_intent_rate
        yield "max_parse_failure_rate", failures, limits.max_parse_failure_rate
        yield "max_unknown_intent_rate", unknown, limits.max_unknown_intent_rate
        yield "max_disagreement_rate", self.disagreement_rate, limits.max_disagreement_rate
        # With few answers of the champion its percentile would be unreliable.
        if self.champion.requests >= limits.min_requests:
            yield "max_latency_ratio_p95", self.latency_ratio_p95, limits.max_latency_ratio_p95


def divide(part: float, whole: float) -> float | None:
    return part / whole if whole else None
