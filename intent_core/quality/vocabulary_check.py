"""Rules of the data check for a project with a label vocabulary: what labels have beyond it.

A positional value is judged only if no slot of its intent can have it. A slot of type text can have
every value; there, only another spelling of a listed value is reported.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from intent_core.language.calls import Argument, Call
from intent_core.language.slot_names import may_take, name_slots
from intent_core.language.utterances import fold_letters
from intent_core.language.vocabulary import IntentEntry, SlotEntry, Vocabulary
from intent_core.quality.findings import Corpus, RuleResult, list_some, note, warn
from intent_core.recipe.choices import Rule


class _Deviation(NamedTuple):
    """One part of a label that differs from the vocabulary."""

    rule: Rule
    name: str
    """What it is, for the message."""
    details: dict[str, Any]
    """For the row behind the finding."""


def check_vocabulary(corpus: Corpus) -> Iterable[RuleResult]:
    """Yield the findings about labels that differ from the vocabulary; none without one.

    Args:
        corpus: the input of the data check.
    """
    vocabulary = corpus.vocabulary
    if vocabulary is None:
        return
    deviations = [
        (row, deviation)
        for row, calls in enumerate(corpus.labels)
        for call in calls
        for deviation in _check_call(call, vocabulary)
    ]
    for rule, (say, what, remedy) in _TEXTS.items():
        mine = [(row, deviation) for row, deviation in deviations if deviation.rule == rule]
        if mine:
            names = Counter(deviation.name for _, deviation in mine)
            listed = list_some(
                name if count == 1 else f"{name} {count} times"
                for name, count in names.most_common()
            )
            yield say(
                rule,
                f"{len(names)} {what}: {listed}",
                remedy,
                [corpus.describe(row, **deviation.details) for row, deviation in mine],
                num_different=len(names),
                num_places=len(mine),
            )
    yield from _check_unused(corpus, vocabulary)


_TEXTS: dict[Rule, tuple[Any, str, str]] = {
    "unknown-intents": (
        warn,
        "intent(s) are not in the vocabulary",
        "Correct the spelling in these rows, or add the intents to the vocabulary.",
    ),
    "unknown-slots": (
        warn,
        "slot name(s) are not in the vocabulary",
        "Correct the spelling in these rows, or add the slots to the vocabulary.",
    ),
    "unlisted-values": (
        warn,
        "value(s) are not in the list of their slot",
        "Correct these labels, or add the values or synonyms to the vocabulary.",
    ),
    "wrong-types": (
        warn,
        "value(s) are not of the type of their slot",
        "Correct these labels, or change the type in the vocabulary.",
    ),
    "fixed-counts": (
        warn,
        "intent(s) with a fixed order have calls with too few or too many values",
        "Correct these labels, or remove `order: fixed` from the intent.",
    ),
    "synonym-values": (
        note,
        "value(s) are synonyms",
        "No action needed, unless all labels must have the value instead of its synonym.",
    ),
}


def _check_unused(corpus: Corpus, vocabulary: Vocabulary) -> Iterable[RuleResult]:
    used = {call.intent for calls in (*corpus.labels, *(corpus.test or ())) for call in calls}
    if unused := [intent for intent in vocabulary.intents if intent not in used]:
        yield note(
            "unused-intents",
            f"in the vocabulary, but in no label: {list_some(unused)}",
            "Label utterances with these intents, or remove them from the vocabulary.",
            [{"intent": intent} for intent in unused],
            num_intents=len(unused),
        )


def _check_call(call: Call, vocabulary: Vocabulary) -> Iterator[_Deviation]:
    entry = vocabulary.intents.get(call.intent)
    if entry is None:
        likely = find_likely(call.intent, vocabulary.intents)
        yield _deviate("unknown-intents", call.intent, likely, intent=call.intent)
        return
    if entry.order == "fixed" and len(call.arguments) != len(entry.slots):
        name = f"{call.intent} with {len(call.arguments)} instead of {len(entry.slots)}"
        numbers = {"num_values": len(call.arguments), "num_slots": len(entry.slots)}
        yield _Deviation("fixed-counts", name, {"intent": call.intent, **numbers})
    slots = {slot.name: slot for slot in entry.slots}
    for argument, slot in zip(call.arguments, name_slots(call, vocabulary), strict=True):
        if slot is None:
            yield from _check_positional(call.intent, argument.value, entry)
        elif slot in slots:
            yield from _check_value(call.intent, argument.value, slots[slot])
        elif slots:
            yield _check_name(call.intent, argument, slots)


def _check_name(intent: str, argument: Argument, slots: Iterable[str]) -> _Deviation:
    slot = str(argument.name)
    details = {"intent": intent, "slot": slot, "value": argument.value}
    return _deviate("unknown-slots", f"{intent}.{slot}", find_likely(slot, slots), **details)


def _check_value(intent: str, value: str, slot: SlotEntry) -> Iterator[_Deviation]:
    details = {"intent": intent, "slot": slot.name, "value": value}
    name = f"{value!r} of {intent}.{slot.name}"
    likely = slot.spellings.get(value)
    if likely is None and slot.type == "one_of":
        yield _deviate("unlisted-values", name, _find_value(value, [slot]), **details)
    elif likely is None and not may_take(slot, value):
        yield _Deviation("wrong-types", f"{name} ({slot.type})", details)
    elif likely is None and (likely := _find_spelling(value, [slot])):
        yield _deviate("unlisted-values", name, likely, **details)
    elif likely not in (None, value):
        yield _Deviation("synonym-values", f"{name} for {likely!r}", {**details, "likely": likely})


def _check_positional(intent: str, value: str, entry: IntentEntry) -> Iterator[_Deviation]:
    if not entry.slots or any(value in slot.spellings for slot in entry.slots):
        return
    details = {"intent": intent, "value": value}
    name = f"{value!r} of {intent}"
    likely = _find_spelling(value, entry.slots)
    can_be = [slot for slot in entry.slots if may_take(slot, value)]
    has_list = any(slot.type == "one_of" for slot in entry.slots)
    if likely or (has_list and not can_be):
        likely = likely or _find_value(value, entry.slots)
        yield _deviate("unlisted-values", name, likely, **details)
    elif not can_be:
        types = " or ".join(dict.fromkeys(slot.type for slot in entry.slots))
        yield _Deviation("wrong-types", f"{name} ({types})", details)


def _deviate(rule: Rule, name: str, likely: str | None, **details: str) -> _Deviation:
    if likely is None:
        return _Deviation(rule, name, details)
    return _Deviation(rule, f"{name} (likely {likely})", {**details, "likely": likely})


def _find_spelling(value: str, slots: Iterable[SlotEntry]) -> str | None:
    """Return the value that differs only in width, case, spaces or signs; None if there is none."""
    folded = fold_letters(value)
    known = (s.folded_spellings.get(folded) for s in slots if value not in s.spellings)
    return next((listed for listed in known if listed is not None), None)


def _find_value(value: str, slots: Sequence[SlotEntry]) -> str | None:
    spellings = {s: listed for slot in slots for s, listed in slot.spellings.items()}
    likely = find_likely(value, spellings)
    return spellings[likely] if likely is not None else None


def find_likely(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that resembles a name most; None if none does.

    Args:
        name: the name.
        known: the known names.
    """
    return _find_nearest(name, tuple(known))


@lru_cache(maxsize=10_000)
def _find_nearest(name: str, known: tuple[str, ...]) -> str | None:
    folded = fold_letters(name)
    by_folded = {fold_letters(other): other for other in known}
    # Of a short Chinese name, half of the characters may be wrong: 杭洲 for 杭州.
    cutoff = 0.5 if len(folded) <= 3 else 0.6
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else None
