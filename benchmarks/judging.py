"""Which version a request was to be answered by, and which one has."""

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from known_answers import VERSIONS, Known
from serving_load import Asked, Loop, quantile

LOOPS: tuple[Loop, ...] = ("closed", "open")
Verdict = Literal["right", "failed", "other", "neither", "late"]
"""`other`: the other version's text; `neither`: no version's, as half of each would be; `late`: of
the version it is labelled with, but sent after another one had been declared done."""


class Switch(NamedTuple):
    """A turn to `wanted`; between its two times either version may answer."""

    began: float
    ended: float
    before: int
    wanted: int
    after: int
    """`before` again where it was refused."""
    is_roll_back: bool


class Judged(NamedTuple):
    """All that was asked of a contender."""

    asked: list[Asked]
    verdicts: list[Verdict]
    switches: list[Switch]
    known: Known
    labels: Sequence[str]

    def count(self, *verdicts: Verdict, loop: Loop | None = None) -> int:
        found = Counter(
            verdict
            for asked, verdict in zip(self.asked, self.verdicts, strict=True)
            if loop in (None, asked.loop)
        )
        return sum(found[verdict] for verdict in verdicts)

    def latency_ratio(self, loop: Loop, share: float = 0.95) -> float | None:
        """A quantile of the requests that met a switch, over that of the others."""
        during: list[float] = []
        steady: list[float] = []
        for asked in self.asked:
            if asked.loop == loop and asked.status == 200:
                (during if self._met_a_switch(asked) else steady).append(asked.seconds)
        if not during or not steady:
            return None
        return quantile(during, share) / quantile(steady, share)

    def _met_a_switch(self, asked: Asked) -> bool:
        return any(one.began < asked.ended and asked.sent < one.ended for one in self.switches)

    def switch_seconds(self, is_roll_back: bool = False) -> list[float]:
        """From each turn's call to the first answer of the new version that a caller saw."""
        seconds = []
        for number, one in enumerate(self.switches):
            if one.is_roll_back != is_roll_back or one.after != one.wanted:
                continue
            until = self.switches[number + 1].began if number + 1 < len(self.switches) else None
            firsts = [
                asked.ended
                for asked in self.asked
                if asked.sent >= one.began
                and (until is None or asked.ended < until)
                and self._answered_by(asked) == one.wanted
            ]
            if firsts:
                seconds.append(min(firsts) - one.began)
        return seconds

    def _answered_by(self, asked: Asked) -> int | None:
        if asked.status != 200:
            return None
        if self.labels:
            return find_label(asked, self.labels)
        return next(
            (v for v in VERSIONS if self.known.texts[v][asked.utterance] == asked.text), None
        )

    def longest_silence(self) -> float:
        """The longest time in which nobody was answered, whatever was asked."""
        ends = sorted(asked.ended for asked in self.asked if asked.status == 200)
        return max((b - a for a, b in itertools.pairwise(ends)), default=0.0)


def judge(
    asked: list[Asked], switches: list[Switch], known: Known, labels: Sequence[str]
) -> Judged:
    """Hold every answer against the label it bears; where it has none, against the operator's:
    once a switch has returned the new version, until the next begins; while it lasts either.
    """
    verdicts = [_judge(one, switches, known, labels) for one in asked]
    return Judged(asked, verdicts, switches, known, labels)


def _judge(asked: Asked, switches: list[Switch], known: Known, labels: Sequence[str]) -> Verdict:
    if asked.status != 200:
        return "failed"
    declared: set[int] = set()
    for versions, since, until in _declared(switches):
        if since <= asked.ended and asked.sent <= until:
            declared |= versions
    allowed = declared
    if labels:
        label = find_label(asked, labels)
        allowed = set() if label is None else {label}
    texts = [known.texts[version][asked.utterance] for version in VERSIONS]
    if any(asked.text == texts[version] for version in allowed):
        return "right" if allowed & declared else "late"
    return "other" if asked.text in texts else "neither"


def _declared(switches: list[Switch]) -> Iterator[tuple[set[int], float, float]]:
    """Versions that may answer, since when, and until when."""
    since, now = float("-inf"), 0
    for one in switches:
        yield {now}, since, one.began
        yield {one.before, one.wanted}, one.began, one.ended
        since, now = one.ended, one.after
    yield {now}, since, float("inf")


def find_label(asked: Asked, labels: Sequence[str]) -> int | None:
    return labels.index(asked.label) if asked.label in labels else None


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
