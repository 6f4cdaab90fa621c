"""Keys that an object has twice: parsers keep the last value and drop the others in silence."""

import json
import math
from collections import Counter
from typing import Any, NamedTuple

import orjson

# Python raises on longer integers (limit 4300 digits). Such values are never used: read infinity.
_MAX_DIGITS = 4000


class RepeatedKey(NamedTuple):
    """A key that occurs more than once in an object."""

    key: str
    values: tuple[object, object]
    """The one that is kept, and one that is not; equal ones only if all are equal."""
    holder: dict[str, Any]
    """The object as it was read."""

    @property
    def is_equal(self) -> bool:
        """Whether nothing is lost."""
        kept, lost = self.values
        return type(kept) is type(lost) and kept == lost


Repeats = tuple[RepeatedKey, ...]


class RepeatSeeker:
    """A JSON decoder that collects repeated keys."""

    def __init__(self) -> None:
        self.repeats: list[RepeatedKey] = []
        self.decoder = json.JSONDecoder(parse_int=_parse_int, object_pairs_hook=self._make_object)

    def _make_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            self._collect(pairs, made)
        return made

    def _collect(self, pairs: list[tuple[str, Any]], made: dict[str, Any]) -> None:
        counts = Counter(key for key, _ in pairs)
        repeated = [key for key, count in counts.items() if count > 1]
        for key in repeated:
            lost = [value for name, value in pairs if name == key][:-1]
            others = [RepeatedKey(key, (made[key], value), made) for value in lost]
            self.repeats.append(next((r for r in others if not r.is_equal), others[0]))


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else math.inf


def select_repeats(repeats: Repeats, value: object) -> Repeats:
    """Return the repeated keys of the objects within a part of what was read.

    Args:
        repeats: of the whole.
        value: the part.
    """
    if not repeats:
        return ()
    holders: set[int] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            holders.add(id(item))
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return tuple(repeat for repeat in repeats if id(repeat.holder) in holders)


def find_repeats(text: bytes, value: object) -> Repeats:
    """Return the repeated keys of a JSON text that was parsed without an error.

    Args:
        text: one JSON value.
        value: the value that `orjson` gives for it.
    """
    # What is written from the value has no repeated key: if it is the text, nor has that.
    try:
        if orjson.dumps(value) == text:
            return ()
    except TypeError:
        pass  # nested too deeply to be written
    seeker = RepeatSeeker()
    try:
        seeker.decoder.decode(text.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return ()
    return tuple(seeker.repeats)
