"""Compare the version that should answer each request with the version that did."""

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from known_answers import VERSIONS, Known
from serving_load import Loop, SentRequest, quantile

LOOPS: tuple[Loop, ...] = ("closed", "open")
Verdict = Literal["right", "failed", "other", "neither", "late"]
"""`other`: the text of the other version; `neither`: the text of no version, e.g. a mixture;
`late`: the text of the labelled version, but sent after the switch to another had finished."""


class Switch(NamedTuple):
    """A switch to the version `wanted`; between its two times both versions are allowed."""

    began: float
    ended: float
    before: int
    wanted: int
    after: int
    """Equal to `before` if the switch was rejected."""
    is_roll_back: bool


class Judged(NamedTuple):
    """All requests to a contender, with verdicts."""

    requests: list[SentRequest]
    verdicts: list[Verdict]
    switches: list[Switch]
    known: Known
    labels: Sequence[str]

    def count(self, *verdicts: Verdict, loop: Loop | None = None) -> int:
        counts = Counter(
            verdict
            for request, verdict in zip(self.requests, self.verdicts, strict=True)
            if loop in (None, request.loop)
        )
        return sum(counts[verdict] for verdict in verdicts)

    def latency_ratio(self, loop: Loop, share: float = 0.95) -> float | None:
        """Return a latency quantile of requests during a switch divided by that of the others."""
        during: list[float] = []
        steady: list[float] = []
        for request in self.requests:
            if request.loop == loop and request.status == 200:
                (during if self._met_a_switch(request) else steady).append(request.seconds)
        if not during or not steady:
            return None
        return quantile(during, share) / quantile(steady, share)

    def _met_a_switch(self, request: SentRequest) -> bool:
        return any(
            switch.began < request.ended and request.sent < switch.ended for switch in self.switches
        )

    def switch_seconds(self, is_roll_back: bool = False) -> list[float]:
        """Return for each switch the seconds from its call to the new version's first answer."""
        seconds = []
        for number, switch in enumerate(self.switches):
            if switch.is_roll_back != is_roll_back or switch.after != switch.wanted:
                continue
            until = self.switches[number + 1].began if number + 1 < len(self.switches) else None
            firsts = [
                request.ended
                for request in self.requests
                if request.sent >= switch.began
                and (until is None or request.ended < until)
                and self._answered_by(request) == switch.wanted
            ]
            if firsts:
                seconds.append(min(firsts) - switch.began)
        return seconds

    def _answered_by(self, request: SentRequest) -> int | None:
        if request.status != 200:
            return None
        if self.labels:
            return find_label(request, self.labels)
        return next(
            (v for v in VERSIONS if self.known.texts[v][request.utterance] == request.text), None
        )

    def longest_silence(self) -> float:
        """Return the longest time in seconds without any successful answer."""
        ends = sorted(request.ended for request in self.requests if request.status == 200)
        return max((b - a for a, b in itertools.pairwise(ends)), default=0.0)


def judge(
    requests: list[SentRequest], switches: list[Switch], known: Known, labels: Sequence[str]
) -> Judged:
    """Compare every answer with the version of its label, or else with the served version.

    The served version is the new one from the end of a switch to the start of the next; during a
    switch both are allowed.
    """
    verdicts = [_judge(request, switches, known, labels) for request in requests]
    return Judged(requests, verdicts, switches, known, labels)


def _judge(
    request: SentRequest, switches: list[Switch], known: Known, labels: Sequence[str]
) -> Verdict:
    if request.status != 200:
        return "failed"
    declared: set[int] = set()
    for versions, since, until in _declared(switches):
        if since <= request.ended and request.sent <= until:
            declared |= versions
    allowed = declared
    if labels:
        label = find_label(request, labels)
        allowed = set() if label is None else {label}
    texts = [known.texts[version][request.utterance] for version in VERSIONS]
    if any(request.text == texts[version] for version in allowed):
        return "right" if allowed & declared else "late"
    return "other" if request.text in texts else "neither"


def _declared(switches: list[Switch]) -> Iterator[tuple[set[int], float, float]]:
    """Yield the allowed versions, and the start and end of that period."""
    since, now = float("-inf"), 0
    for switch in switches:
        yield {now}, since, switch.began
        yield {switch.before, switch.wanted}, switch.began, switch.ended
        since, now = switch.ended, switch.after
    yield {now}, since, float("inf")


def find_label(request: SentRequest, labels: Sequence[str]) -> int | None:
    return labels.index(request.label) if request.label in labels else None


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
