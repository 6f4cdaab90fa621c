"""Guess a first label vocabulary from labels, with a remark wherever the labels do not say it.

Intents, and slots that the labels name, are read. The rest is guessed: an intent whose calls all
have the same number of values (or at most one) has as many slots, `value_1` and so on, and a slot
has a type if its values clearly do.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from intent_core.language.calls import Call
from intent_core.language.utterances import fold_letters
from intent_core.language.value_types import is_date, is_number, may_be_date, may_be_number
from intent_core.language.vocabulary import IntentEntry, SlotEntry, SlotType, Vocabulary
from intent_core.quality.findings import Labels, count_intents, list_some
from intent_core.recipe.vocabulary_file import KeyPath

GUESSED = "guessed"
_MOST_EXAMPLES = 3
_LONGEST_EXAMPLE = 80
_LEAST_VALUES = 5
"""Values that a type needs."""
_LEAST_LISTED = 20
"""Values that a closed list needs, five for each value of the list."""
_MOST_IN_LIST = 20
_TYPE_SHARE = 0.9
_LIST_SHARE = 0.95


class Guess(NamedTuple):
    """A vocabulary, and remarks for the person who completes it, by place in the file."""

    vocabulary: Vocabulary
    remarks: dict[KeyPath, str]

    @property
    def num_guessed(self) -> int:
        """Number of places with a guess."""
        return sum(remark.startswith(GUESSED) for remark in self.remarks.values())


def guess_vocabulary(utterances: Sequence[str], labels: Labels) -> Guess:
    """Guess the vocabulary of labelled utterances, the most frequent intent first.

    Args:
        utterances: the utterances; at least one has a call.
        labels: their calls.
    """
    counts = count_intents(labels)
    calls: dict[str, list[Call]] = {intent: [] for intent in counts}
    spoken: dict[str, list[str]] = {intent: [] for intent in counts}
    for utterance, label in zip(utterances, labels, strict=True):
        for call in label:
            calls[call.intent].append(call)
        if len(label) == 1:
            spoken[label[0].intent].append(utterance)
    remarks: dict[KeyPath, str] = {}
    intents = {}
    for intent, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        slots = list(_guess_slots(calls[intent]))
        intents[intent] = IntentEntry(
            examples=_choose_utterances(spoken[intent]), slots=tuple(s.entry for s in slots)
        )
        remarks["intents", intent] = _describe(count, calls[intent], bool(slots))
        for index, slot in enumerate(slots):
            place = ("intents", intent, "slots", str(index))
            remarks |= {(*place, key): remark for key, remark in slot.remarks.items()}
    return Guess(Vocabulary(intents=intents), remarks)


class _GuessedSlot(NamedTuple):
    entry: SlotEntry
    remarks: dict[str, str]
    """By key."""


def _describe(count: int, calls: Sequence[Call], has_slots: bool) -> str:
    text = f"{count} utterance{'' if count == 1 else 's'}"
    sizes = sorted({len(call.arguments) for call in calls})
    unnamed = sum(argument.name is None for call in calls for argument in call.arguments)
    if sizes != [0] and not has_slots:
        return f"{text}, {sizes[0]} to {sizes[-1]} values without names: add the slots"
    is_mixed = unnamed and any(argument.name for call in calls for argument in call.arguments)
    return f"{text}, {unnamed} values without names" if is_mixed else text


def _guess_slots(calls: Sequence[Call]) -> Iterator[_GuessedSlot]:
    named: dict[str, list[str]] = {}
    for argument in (argument for call in calls for argument in call.arguments):
        if argument.name:
            named.setdefault(argument.name, []).append(argument.value)
    if named:
        for name, values in named.items():
            yield _guess_slot(name, values, {})
        return
    sizes = {len(call.arguments) for call in calls}
    if len(sizes) > 1 and sizes != {0, 1}:
        return
    for index in range(max(sizes)):
        values = [call.arguments[index].value for call in calls if call.arguments]
        # Values are in the order of the utterance: one of several places has no list of its own.
        yield _guess_slot(f"value_{index + 1}", values, {"name": GUESSED}, may_list=max(sizes) == 1)


def _guess_slot(
    name: str, values: Sequence[str], remarks: dict[str, str], *, may_list: bool = True
) -> _GuessedSlot:
    counts = Counter(values)
    kind = _guess_type(values)
    listed: dict[str, tuple[str, ...]] = {}
    if kind == "text" and may_list and (known := _guess_list(counts)):
        kind, listed = "one_of", dict.fromkeys(known, ())
        remarks = {**remarks, "values": _remark_on_list(counts, known)}
    if kind != "text":
        remarks = {**remarks, "type": GUESSED}
    short = [value for value, _ in counts.most_common() if len(value) <= _LONGEST_EXAMPLE]
    examples = () if listed else tuple(short[:_MOST_EXAMPLES])
    entry = SlotEntry(name=name, type=kind, values=listed, examples=examples)
    return _GuessedSlot(entry, remarks)


def _guess_type(values: Sequence[str]) -> SlotType:
    if len(values) < _LEAST_VALUES:
        return "text"
    dates, numbers = sum(map(is_date, values)), sum(map(is_number, values))
    least = _TYPE_SHARE * len(values)
    if dates >= max(least, numbers) and all(map(may_be_date, values)):
        return "date"
    return "number" if numbers >= least and all(map(may_be_number, values)) else "text"


def _guess_list(counts: Counter[str]) -> list[str]:
    """Return the values of a closed list, without those that occur once; empty if it is none."""
    listed = [value for value, count in counts.most_common() if count > 1]
    enough = max(_LEAST_LISTED, 5 * len(listed), _LIST_SHARE * counts.total())
    covered = sum(counts[value] for value in listed)
    return listed if covered >= enough and len(listed) <= _MOST_IN_LIST else []


def _remark_on_list(counts: Counter[str], listed: Sequence[str]) -> str:
    remark = GUESSED
    rare = [value for value in counts if value not in listed]
    if rare:
        remark += f"; left out, because they occur once: {list_some(rare)}"
    pairs = combinations([*listed, *rare], 2)
    alike = [f"{a} and {b}" for a, b in pairs if a in listed and _look_alike(a, b)]
    return f"{remark}; look alike: {list_some(alike)}" if alike else remark


def _look_alike(value: str, other: str) -> bool:
    """Return True for 高档 and 高档型, or Play and play; not for 4 stars and 5 stars."""
    first, second = fold_letters(value), fold_letters(other)
    if first == second:
        return True
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    changes = [
        (first[a:b], second[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"
    ]
    if any(map(str.isdecimal, "".join(chain(*changes)))):
        return False
    shorter = min(len(first), len(second))
    num_changed = sum(max(map(len, change)) for change in changes)
    # 北京 and 南京: of two characters, one may be missing but not another.
    return shorter >= 2 + all(map(all, changes)) and num_changed <= 1 + shorter // 5


def _choose_utterances(utterances: Iterable[str]) -> tuple[str, ...]:
    """Return a few short utterances from the beginning, the middle and the end."""
    short = [u for u in dict.fromkeys(utterances) if len(u) <= _LONGEST_EXAMPLE and u.isprintable()]
    places = dict.fromkeys((0, len(short) // 2, len(short) - 1)) if short else ()
    return tuple(short[place] for place in places)
