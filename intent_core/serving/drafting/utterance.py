"""What the statistics say about one utterance: its intent, and where values start and end."""

import math
from collections.abc import Iterable, Sequence

from intent_core.serving.drafting.table import DraftTable
from intent_core.serving.drafting.units import Tag, list_features, list_tag_features, split_units

_SMOOTHING = 0.3
_OVERCONFIDENCE = 2
"""Words depend on each other, so naive Bayes is too sure."""


class UtteranceChances:
    """The chances of one utterance, computed at most once for all steps of its answer."""

    def __init__(self, table: DraftTable, text: str) -> None:
        self._table = table
        self.text = text
        self.units = split_units(text)
        self._numbers = {unit.start: number for number, unit in enumerate(self.units)}
        self._tags: dict[tuple[int, str, Tag], Sequence[float]] = {}
        self._fixed: dict[tuple[int, str], Sequence[int]] = {}
        self._scores: dict[int, dict[str, float]] = {}

    def tag_chances(self, at: int, intent: str, before: Tag) -> Sequence[float]:
        """Return the chance of each tag of a unit after a tag; beyond the end, that of OUTSIDE."""
        if at >= len(self.units):
            return (1.0, 0.0, 0.0)
        key = at, intent, before
        if key not in self._tags:
            fixed = self._fixed.get(key[:2])
            if fixed is None:
                fixed = self._fixed[key[:2]] = self._sum(list_features(self.units, at, intent))
            changing = self._sum(list_tag_features(self.units, at, intent, before))
            sums = [(a + b) / 100 for a, b in zip(fixed, changing, strict=True)]
            self._tags[key] = to_chances(sums)
        return self._tags[key]

    def list_starts(
        self, at: int, intent: str, before: Tag
    ) -> tuple[list[tuple[float, int]], float]:
        """Return the chances of the units from one on to start the next value, the best first.

        The second result is the chance that there is no further value.
        """
        starts, none = [], 1.0
        for number in range(at, len(self.units)):
            outside, first, _ = self.tag_chances(number, intent, before)
            starts.append((none * first / (outside + first), number))
            none, before = none * outside / (outside + first), Tag.OUTSIDE
        return sorted(starts, key=lambda start: -start[0]), none

    def intent_chances(self, at: int, previous: str, start: str) -> dict[str, float]:
        """Return the chances of the intents after another one that begin with `start`.

        They follow from the units from one on.
        """
        following = self._table.following.get(previous, {})
        fitting = {
            name: score + math.log(following.get(name, 0) + _SMOOTHING)
            for name, score in self._score_intents(at).items()
            if name.startswith(start)
        }
        sums = [score / _OVERCONFIDENCE for score in fitting.values()]
        return dict(zip(fitting, to_chances(sums), strict=True))

    def find_value(self, value: str, at: int) -> tuple[int, int] | None:
        """Return the first unit of a value, and the one after it; first search from a unit on."""
        start = self.units[at].start if at < len(self.units) else len(self.text)
        for position in (*find_spans(self.text, value, start), *find_spans(self.text, value, 0)):
            if value and position in self._numbers:
                end = position + len(value)
                after = (n for n, unit in enumerate(self.units) if unit.start >= end)
                return self._numbers[position], next(after, len(self.units))
        return None

    def _sum(self, features: Iterable[str]) -> Sequence[int]:
        weights = self._table.weights
        known = [weights[feature] for feature in features if feature in weights]
        return [sum(column) for column in zip(*known, strict=True)] or (0, 0, 0)

    def _score_intents(self, at: int) -> dict[str, float]:
        """Return the log-odds of each intent that the words from a unit on add (naive Bayes)."""
        if at not in self._scores:
            words = {unit.word for unit in self.units[at:]} & self._table.words.keys()
            self._scores[at] = {
                intent: self._score_words(words, intent, count)
                for intent, count in self._table.intents.items()
            }
        return self._scores[at]

    def _score_words(self, words: set[str], intent: str, count: int) -> float:
        known, whole = self._table.words, count + _SMOOTHING * len(self._table.intents)
        return sum(
            math.log((known[word].get(intent, 0) + _SMOOTHING) / whole) for word in sorted(words)
        )


def find_spans(text: str, value: str, start: int) -> Iterable[int]:
    """Yield the positions of a value in a text, from a position on.

    Args:
        text: the utterance.
        value: the value, or its first characters.
        start: the first position.
    """
    at = text.find(value, start)
    while at >= 0:
        yield at
        at = text.find(value, at + 1)


def to_chances(sums: Sequence[float]) -> list[float]:
    """Return chances from log-odds.

    Args:
        sums: the log-odds of each possibility.
    """
    largest = max(sums, default=0.0)
    powers = [math.exp(value - largest) for value in sums]
    whole = math.fsum(powers)
    return [power / whole for power in powers]
