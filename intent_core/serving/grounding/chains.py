"""Rules for the parts of utterances: a chain with a rule for each unit (`spans.py`).

`vp3` is the text from the fourth unit on, to wherever a value may end. A value is written as in
`calls.py`: plain, or in quotes with escapes if the plain form could be misread. The quoted form has
its own chain, `vq3`, which exists only if something needs quotes.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from intent_core.language.calls import Argument, Call, format_calls
from intent_core.serving.grounding.spans import SpanReader, UtterancePart

_SPECIAL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029,;()=\\，；（）]")
"""What no plain value contains. A quote is special only at its start."""
_ESCAPED = re.compile(r'[\x00-\x1f\x7f\x85\u2028\u2029"\\]')
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_IN_RULES = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029]')
_ESCAPES = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


class _ChainedUnit(NamedTuple):
    """A unit and what follows it."""

    text: str
    gap: str | None
    """Whitespace before the next unit; None if no value contains both."""

    @property
    def is_plain(self) -> bool:
        return not _SPECIAL.search(self.text)

    @property
    def starts_plain(self) -> bool:
        return self.is_plain and not self.text.startswith('"')


class UtteranceChains:
    """Writes the rules for the parts of some utterances.

    Args:
        reader: cuts utterances where values begin and end.
        texts: the utterances; no value is a part of two.
    """

    def __init__(self, reader: SpanReader, texts: Sequence[str]) -> None:
        self._units = [unit for text in texts for unit in _list_units(reader, text)]
        self._needs_quotes = any(
            not unit.starts_plain or (unit.gap and _SPECIAL.search(unit.gap))
            for unit in self._units
        )

    def __len__(self) -> int:
        """The number of units of all utterances."""
        return len(self._units)

    def write_values(self, name: str) -> Iterator[str]:
        """Yield the rules of one value, `name`."""
        indices = range(len(self._units))
        starts = (start for index in indices for start in self._list_starts(name, index))
        yield f"{name} ::= {' | '.join(starts)}"
        for index in indices:
            yield from self._write_unit(name, index, "")

    def write_lists(self, name: str) -> Iterator[str]:
        """Yield the rules of values in the order of the utterances without overlap, `name0`.

        The rule `name3` is one or more values from the fourth unit on.
        """
        last = len(self._units) - 1
        for index in range(len(self._units)):
            following = f"{name}{index + 1}" if index < last else ""
            starts = [*self._list_starts(name, index), *([following] if following else [])]
            yield f"{name}{index} ::= {' | '.join(starts)}"
            yield from self._write_unit(name, index, f'"," {following}' if following else "")

    def _list_starts(self, name: str, index: int) -> Iterator[str]:
        if self._units[index].starts_plain:
            yield f"{name}p{index}"
        if self._needs_quotes:
            yield f'"\\"" {name}q{index}'

    def _write_unit(self, name: str, index: int, after: str) -> Iterator[str]:
        """Yield the rules from a unit on; `after` is what can follow a value."""
        text, gap = self._units[index]
        if self._units[index].is_plain:
            goes_on = (
                gap is not None and not _SPECIAL.search(gap) and self._units[index + 1].is_plain
            )
            following = [f"{_join(gap)}{name}p{index + 1}"] if goes_on else []
            rest = " | ".join([*following, *([after] if after else [])])
            yield f"{name}p{index} ::= {quote(text)}{f' ({rest})?' if rest else ''}"
        if self._needs_quotes:
            end = f'"\\"" ({after})?' if after else '"\\""'
            following = [] if gap is None else [f"{_join(_escape_value(gap))}{name}q{index + 1}"]
            rest = " | ".join([*following, end])
            yield f"{name}q{index} ::= {quote(_escape_value(text))} ({rest})"


def quote(text: str) -> str:
    """Return a text as a string of a rule.

    Args:
        text: any text.
    """
    return f'"{_ESCAPED_IN_RULES.sub(_escape_in_rule, text)}"'


def format_value(value: str, *, quoted: bool = False) -> str:
    """Return a value as an answer contains it.

    Args:
        value: any text.
        quoted: put it in quotes also where its plain form could not be misread.
    """
    call = Call(intent="x", arguments=(Argument(value=value),))
    return format_calls([call], quoted=quoted)[2:-1]


def _list_units(reader: SpanReader, text: str) -> Iterator[_ChainedUnit]:
    units = [unit for unit in reader.list_units(text) if not _SURROGATE.search(text, *unit)]
    for unit, following in pairwise([*units, None]):
        assert unit is not None
        yield _ChainedUnit(text[unit.start : unit.end], _read_gap(text, unit, following))


def _read_gap(text: str, unit: UtterancePart, following: UtterancePart | None) -> str | None:
    if following is None:
        return None
    gap = text[unit.end : following.start]
    return None if _SURROGATE.search(gap) else gap


def _join(gap: str | None) -> str:
    return f"{quote(gap)} " if gap else ""


def _escape_value(text: str) -> str:
    # One character at a time: whether a joiner has a meaning depends on the whole value.
    return _ESCAPED.sub(lambda match: format_value(match[0], quoted=True)[1:-1], text)


def _escape_in_rule(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"
