"""Guesses how an answer continues, from its utterance and the statistics of the labels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from intent_core.serving.drafting.arguments import read_value, split_name, write_value
from intent_core.serving.drafting.progress import AnswerProgress, read_progress
from intent_core.serving.drafting.table import DraftTable, slot_key
from intent_core.serving.drafting.units import Tag
from intent_core.serving.drafting.utterance import UtteranceChances

_MOST_GUESSES = 3
_MOST_PIECES = 40
_CERTAIN = 0.98
_LISTED = 0.9


@dataclass(frozen=True)
class Piece:
    """Text that may follow in an answer; `chance` supposes that everything before it is right."""

    text: str
    chance: float


@dataclass(frozen=True)
class _DraftPlace:
    """A place in the answer, and in the utterance behind the last value that was copied."""

    after: str
    """What was written last: ";", "(", ",", "value", ")", or "" for the end."""
    intent: str
    unit: int
    before: Tag = Tag.OUTSIDE
    """The tag of the unit before."""
    slot: str = ""
    """The name of the argument before."""


@dataclass(frozen=True)
class _GuessStep:
    pieces: tuple[Piece, ...]
    place: _DraftPlace

    @property
    def chance(self) -> float:
        return math.prod(piece.chance for piece in self.pieces)


def guess_answer(
    table: DraftTable, utterance: UtteranceChances, answer: str
) -> Iterator[list[Piece]]:
    """Yield the likeliest continuations of an unfinished answer, the best one first.

    A continuation that ends the answer has an empty last piece.

    Args:
        table: the statistics of the labels.
        utterance: the text to answer.
        answer: the first characters of the answer.
    """
    progress = read_progress(answer)
    if progress is not None:
        guess = _Continuation(table, utterance)
        steps = sorted(guess.start(progress), key=lambda step: -step.chance)
        for step in steps[:_MOST_GUESSES]:
            yield guess.follow(step)


class _Continuation:
    def __init__(self, table: DraftTable, utterance: UtteranceChances) -> None:
        self._table = table
        self._utterance = utterance

    def start(self, progress: AnswerProgress) -> list[_GuessStep]:
        """Return the possible steps after an unfinished answer."""
        place = self._find_place(progress)
        if progress.is_closed:
            return self._after_call(place)
        if not progress.is_open:
            return self._names(place, progress.text)
        if not progress.text and not progress.in_call:
            return self._after_name(place)
        return self._values(place, progress.text)

    def follow(self, step: _GuessStep) -> list[Piece]:
        """Return the pieces of a step and of the likeliest steps after it."""
        pieces = [*step.pieces]
        while step.place.after and len(pieces) < _MOST_PIECES:
            steps = self._next(step.place)
            if not steps:
                break
            step = max(steps, key=lambda step: step.chance)
            pieces += step.pieces
        return pieces

    def _next(self, place: _DraftPlace) -> list[_GuessStep]:
        if place.after == ";":
            return self._names(place, "")
        if place.after == "(":
            return self._after_name(place)
        if place.after == ",":
            return self._values(place, "")
        return self._after_value(place) if place.after == "value" else self._after_call(place)

    def _find_place(self, progress: AnswerProgress) -> _DraftPlace:
        """Return the place behind the last value of the answer that is in the utterance."""
        unit, before = 0, Tag.OUTSIDE
        for argument in progress.arguments:
            span = self._utterance.find_value(read_value(argument), unit)
            if span and span[1] > unit:
                unit, before = span[1], Tag.INSIDE
        slot = split_name(progress.arguments[-1])[0] if progress.in_call else ""
        return _DraftPlace("", progress.intent, unit, before, slot)

    def _names(self, place: _DraftPlace, start: str) -> list[_GuessStep]:
        chances = self._utterance.intent_chances(place.unit, place.intent, start)
        best = sorted(chances, key=lambda name: -chances[name])[:_MOST_GUESSES]
        return [
            _GuessStep(
                (Piece(f"{name[len(start) :]}(", chances[name]),),
                _DraftPlace("(", name, place.unit, place.before),
            )
            for name in best
        ]

    def _after_name(self, place: _DraftPlace) -> list[_GuessStep]:
        starts, none = self._utterance.list_starts(place.unit, place.intent, place.before)
        listed = self._listed(place, "")
        rest = 1 - sum(step.chance for step in listed)
        closed = _GuessStep((Piece(")", none * rest),), replace(place, after=")"))
        copied = (self._copy(place, "", at, chance * rest) for chance, at in starts[:1])
        return [closed, *copied, *listed]

    def _values(self, place: _DraftPlace, text: str) -> list[_GuessStep]:
        """Return the values that can follow; `text` is what is written of the argument."""
        value = read_value(self._without_name(place, text))
        units, whole = self._utterance.units, self._utterance.text
        starts, _ = self._utterance.list_starts(place.unit, place.intent, place.before)
        fitting = [
            (chance, at) for chance, at in starts if whole.startswith(value, units[at].start)
        ]
        if not fitting and (span := self._utterance.find_value(value, 0)):
            fitting = [(1.0, span[0])]
        total = math.fsum(chance for chance, _ in fitting) or 1.0
        copied = [
            self._copy(place, text, at, chance / total) for chance, at in fitting[:_MOST_GUESSES]
        ]
        return [*copied, *self._listed(place, text)]

    def _copy(self, place: _DraftPlace, text: str, at: int, chance: float) -> _GuessStep:
        """Return the value that starts at a unit, up to its likeliest end."""
        name, named = self._name(place, text, at)
        partial = "" if name else self._without_name(place, text)
        length = len(read_value(partial))
        pieces, end = self._extend(place.intent, at, length, chance)
        value = self._utterance.text[self._utterance.units[at].start :][:length]
        written = write_value(value + "".join(piece.text for piece in pieces))
        if partial.startswith('"') or written.startswith('"'):
            pieces = [Piece(written.removeprefix(partial), math.prod(p.chance for p in pieces))]
        if name:
            pieces = [Piece(name, named), *pieces]
        slot = split_name(text + name)[0]
        return _GuessStep(
            tuple(pieces), replace(place, after="value", unit=end, before=Tag.INSIDE, slot=slot)
        )

    def _extend(self, intent: str, at: int, length: int, chance: float) -> tuple[list[Piece], int]:
        """Return the rest of a value after `length` characters, and the unit after it."""
        units, text = self._utterance.units, self._utterance.text
        written, before = units[at].start + length, Tag.FIRST
        pieces = [] if length else [Piece(text[written : units[at].end], chance)]
        number = at + 1
        if written and length and written < units[at].end:
            pieces = [Piece(text[written : units[at].end], chance * _CERTAIN)]
        written = max(written, units[at].end)
        while number < len(units):
            unit = units[number]
            inside = self._utterance.tag_chances(number, intent, before)[Tag.INSIDE]
            if unit.start >= written and inside < 0.5:
                break
            if unit.end > written:
                is_begun = unit.start < written
                pieces.append(Piece(text[written : unit.end], _CERTAIN if is_begun else inside))
                written = unit.end
            number, before = number + 1, Tag.INSIDE
        return pieces or [Piece("", chance)], number

    def _listed(self, place: _DraftPlace, text: str) -> list[_GuessStep]:
        """Return the most frequent value that is not in its utterance and begins with `text`."""
        partial = self._without_name(place, text)
        known = self._table.values.get(place.intent, {})
        fitting = {value: n for value, n in known.items() if write_value(value).startswith(partial)}
        if not fitting or (text and self._name(place, text, 0)[0]):
            return []
        value = max(fitting, key=lambda value: fitting[value])
        total = sum(fitting.values()) if partial else self._table.intents.get(place.intent, 0)
        chance = _LISTED * fitting[value] / max(total, fitting[value])
        piece = Piece(write_value(value)[len(partial) :], chance)
        return [_GuessStep((piece,), replace(place, after="value"))]

    def _name(self, place: _DraftPlace, text: str, at: int) -> tuple[str, float]:
        """Return the rest of an argument's name with its sign; "" without a name."""
        if "=" in text or text.startswith('"'):
            return "", 1.0
        word = self._utterance.units[at - 1].word if at else ""
        slots = self._table.slots
        key = slot_key(place.intent, word, place.slot)
        names = slots.get(key) or slots.get(place.intent, {})
        fitting = {name: count for name, count in names.items() if name.startswith(text)}
        best = max(fitting, key=lambda name: fitting[name], default="")
        if not best:
            return "", 1.0
        return f"{best[len(text) :]}=", fitting[best] / sum(fitting.values())

    def _without_name(self, place: _DraftPlace, text: str) -> str:
        """Return the value in an unfinished argument, as written."""
        names = self._table.slots.get(place.intent, {})
        is_name = any(name.startswith(text) for name in names)
        return "" if is_name and "" not in names else split_name(text)[1]

    def _after_value(self, place: _DraftPlace) -> list[_GuessStep]:
        """Return the two signs that can end a value."""
        inside = self._utterance.tag_chances(place.unit, place.intent, place.before)[Tag.INSIDE]
        more = self._more(place) * self._stays(place.intent)
        return [
            _GuessStep((Piece(sign, (1 - inside) * chance),), replace(place, after=sign))
            for sign, chance in ((",", more), (")", 1 - more))
        ]

    def _after_call(self, place: _DraftPlace) -> list[_GuessStep]:
        """Return the end of the answer, and the next call."""
        more, stays = self._more(place), self._stays(place.intent)
        new = more * (1 - stays)
        following = self._table.following.get(place.intent, {})
        ends = _share(following.get("", 0), sum(following.values()))
        end = ends * (1 - new / ((new + 1 - more) or 1.0))
        return [
            _GuessStep((Piece("", end),), replace(place, after="")),
            _GuessStep((Piece(";", 1 - end),), replace(place, after=";")),
        ]

    def _more(self, place: _DraftPlace) -> float:
        """Return the chance that the rest of the utterance has a value."""
        return 1 - self._utterance.list_starts(place.unit, place.intent, place.before)[1]

    def _stays(self, intent: str) -> float:
        """Return the chance that the next value belongs to the same call."""
        same, new = self._table.same_call.get(intent, (0, 0))
        return _share(same, same + new)


def _share(count: int, total: int) -> float:
    """Return a share that is 1 only if nothing else was seen, and never 0."""
    return (count + 0.5) / (total + 0.5 if count == total else total + 1)
