"""Where a value may begin and end in an utterance, as the labels do it.

An utterance is a sequence of units: words, numbers, and every other character by itself; scripts
that write no space between words are cut at every character. A value begins and ends with a unit.
"""

import re
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import NamedTuple

# Han, kana, bopomofo, Thai, Lao, Myanmar, Khmer.
_UNSPACED = (
    "\u3005-\u3007\u3041-\u30ff\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
# Signs that change the character before them, such as an emoji's, stay with it.
_UNIT = re.compile(
    rf"(?:(?P<word>[^\W\d_{_UNSPACED}]+)|\d+|\S)"
    "(?:[\ufe00-\ufe0f\U000e0020-\U000e01ef]|\u200d\\S?)*"
)


class UtterancePart(NamedTuple):
    """A part of a text: from `start` up to `end`."""

    start: int
    end: int


class Bounds(NamedTuple):
    """Where values of one utterance may begin and end."""

    starts: frozenset[int]
    ends: frozenset[int]

    def hold(self, span: UtterancePart) -> bool:
        return span.start in self.starts and span.end in self.ends


class SpanReader:
    """Cuts utterances into units.

    Args:
        cut_words: words that labels cut between any two letters.
        cuts_every_word: whether labels cut words so often that every letter is a unit.
    """

    def __init__(self, cut_words: Collection[str] = (), *, cuts_every_word: bool = False) -> None:
        self._cut_words = frozenset(cut_words)
        self._cuts_every_word = cuts_every_word

    def list_units(self, text: str) -> list[UtterancePart]:
        """Return the units of a text, in order; whitespace is in none of them."""
        return [unit for match in _UNIT.finditer(text) for unit in self._cut(match)]

    def list_bounds(self, text: str) -> Bounds:
        """Return where units begin and end."""
        units = self.list_units(text)
        return Bounds(frozenset(u.start for u in units), frozenset(u.end for u in units))

    def _cut(self, match: re.Match[str]) -> Iterator[UtterancePart]:
        start, end = match.span()
        word = match["word"]
        if not word:
            yield UtterancePart(start, end)
            return
        is_cut = self._cuts_every_word or word in self._cut_words
        inner = (
            start + index
            for index, (last, first) in enumerate(pairwise(word), 1)
            # `L.aJoseph`: two words without the space between them.
            if is_cut or (last.islower() and first.isupper())
        )
        yield from (UtterancePart(*bounds) for bounds in pairwise([start, *inner, end]))


def list_occurrences(text: str, value: str, position: int = 0) -> Iterator[UtterancePart]:
    """Yield where a value occurs in a text, from `position` on.

    Args:
        text: an utterance.
        value: a value of its label; the empty value occurs nowhere.
        position: where to start.
    """
    start = text.find(value, position) if value else -1
    while start >= 0:
        yield UtterancePart(start, start + len(value))
        start = text.find(value, start + 1)


def find_words(text: str, span: UtterancePart) -> list[str]:
    """Return the words that a span begins or ends within.

    Args:
        text: an utterance.
        span: a part of it.
    """
    return [
        match["word"]
        for match in _UNIT.finditer(text)
        if match["word"] and any(match.start() < bound < match.end() for bound in span)
    ]
