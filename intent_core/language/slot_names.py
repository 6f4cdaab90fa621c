"""Names the values of a call by the label vocabulary, where only one reading is possible.

Labels list values in the order of the utterance, so the place of a value says nothing about its
slot. A value has a slot's name only if

- the label states it: `city=Hangzhou`;
- the intent has `order: fixed` and as many values as slots;
- its type or closed list leaves one reading: exactly one slot of the intent can have it, and no
  other value of the call can be in that slot. A slot of type text can have every value, so an
  intent with such a slot has no names of this kind.

Every other value stays positional: its name is None.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from intent_core.language.calls import Call
from intent_core.language.utterances import fold_letters
from intent_core.language.value_types import is_date, is_number, may_be_date, may_be_number
from intent_core.language.vocabulary import IntentEntry, SlotEntry, SlotType, Vocabulary


def name_slots(call: Call, vocabulary: Vocabulary) -> tuple[str | None, ...]:
    """Return the slot name of each argument, None for a value that stays positional.

    Args:
        call: a call of a label or an answer.
        vocabulary: the intents and their slots.
    """
    stated = tuple(argument.name for argument in call.arguments)
    entry = vocabulary.intents.get(call.intent)
    if entry is None or None not in stated:
        return stated
    return _name_by_place(stated, entry) or _name_by_value(call, stated, entry)


def _name_by_place(stated: Sequence[str | None], entry: IntentEntry) -> tuple[str, ...] | None:
    names = tuple(slot.name for slot in entry.slots)
    if entry.order != "fixed" or len(stated) != len(names):
        return None
    # A name in another place than its own: the values are not in the fixed order.
    is_in_place = all(a in (None, b) for a, b in zip(stated, names, strict=True))
    return names if is_in_place else None


def _name_by_value(
    call: Call, stated: Sequence[str | None], entry: IntentEntry
) -> tuple[str | None, ...]:
    slots = [slot for slot in entry.slots if slot.name not in stated]
    takers = [
        [slot for slot in slots if may_take(slot, argument.value)] if name is None else []
        for argument, name in zip(call.arguments, stated, strict=True)
    ]
    demand = Counter(slot.name for taking in takers for slot in taking)
    return tuple(
        taking[0].name
        if len(taking) == 1 and demand[taking[0].name] == 1 and _takes(taking[0], argument.value)
        else name
        for argument, name, taking in zip(call.arguments, stated, takers, strict=True)
    )


_Test = Callable[[str], bool]
_STRICT: dict[SlotType, _Test] = {"number": is_number, "date": is_date}
_LENIENT: dict[SlotType, _Test] = {
    "number": lambda value: is_number(value) or (may_be_number(value) and not is_date(value)),
    "date": lambda value: is_date(value) or (may_be_date(value) and not is_number(value)),
}


def _takes(slot: SlotEntry, value: str) -> bool:
    """Return True if a value certainly suits a slot's closed list or type."""
    if slot.type == "one_of":
        return value in slot.spellings
    return slot.type in _STRICT and _STRICT[slot.type](value)


def may_take(slot: SlotEntry, value: str) -> bool:
    """Return False if a slot certainly cannot have a value, by its closed list or type.

    Args:
        slot: a slot of the vocabulary.
        value: a value of a label or an answer.
    """
    if slot.type == "one_of":
        return fold_letters(value) in slot.folded_spellings
    return slot.type == "text" or _LENIENT[slot.type](value)
