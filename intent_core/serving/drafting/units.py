"""The units of an utterance, and the features by which a unit is inside or outside of a value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

_UNIT = re.compile(r"[^\W_\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff]+|[^\s]")
_EDGE = "^"


class Tag(IntEnum):
    """The place of a unit: outside of all values, the first of a value, or a later one."""

    OUTSIDE = 0
    FIRST = 1
    INSIDE = 2


@dataclass(frozen=True)
class Unit:
    """A word, a Han character or a sign of an utterance, with its position in the text."""

    start: int
    end: int
    word: str
    shape: str


def split_units(text: str) -> list[Unit]:
    """Return the units of a text, in order.

    Args:
        text: an utterance.
    """
    return [
        Unit(match.start(), match.end(), match[0].lower(), _shape(match[0]))
        for match in _UNIT.finditer(text)
    ]


def list_features(units: Sequence[Unit], at: int, intent: str) -> list[str]:
    """Return the features of a unit that do not depend on the tag before it.

    Args:
        units: the units of the utterance.
        at: the number of the unit.
        intent: the intent of the call.
    """
    (_, second), (shape_before, before), (shape, word), (_, after) = (
        _look(units, at + step) for step in (-2, -1, 0, 1)
    )
    return [
        *("w" + word, "p" + before, "n" + after, "s" + shape_before + shape),
        *(f"b{before} {word}", f"c{second} {before}", f"a{word} {after}"),
        *(f"i{intent} {before}", f"j{intent} {word}"),
    ]


def list_tag_features(units: Sequence[Unit], at: int, intent: str, tag: Tag) -> list[str]:
    """Return the features of a unit that depend on the tag of the unit before it.

    Args:
        units: the units of the utterance.
        at: the number of the unit.
        intent: the intent of the call.
        tag: the tag of the unit before.
    """
    shape, word = _look(units, at)
    (_, before), (_, after) = _look(units, at - 1), _look(units, at + 1)
    return [
        *(f"{tag}", f"{tag}i{intent}", f"{tag}w{word}", f"{tag}p{before}", f"{tag}n{after}"),
        f"{tag}s{shape}",
    ]


def _look(units: Sequence[Unit], at: int) -> tuple[str, str]:
    if 0 <= at < len(units):
        return units[at].shape, units[at].word
    return _EDGE, _EDGE


def _shape(text: str) -> str:
    if text.isdigit():
        return "0"
    if not text.isalnum():
        return "."
    if any(map(str.isdigit, text)):
        return "1"
    return "A" if text[0].isupper() else "a"
