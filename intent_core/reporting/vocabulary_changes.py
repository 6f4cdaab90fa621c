"""The difference of two label vocabularies, as short sentences."""

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from intent_core.language.vocabulary import IntentEntry, SlotEntry, Vocabulary

_MOST_NAMES = 5
EntryT = TypeVar("EntryT", IntentEntry, SlotEntry)


def describe_changes(old: Vocabulary, new: Vocabulary) -> list[str]:
    """Return what differs, by intent and slot.

    Args:
        old: the champion's vocabulary.
        new: the candidate's vocabulary.
    """
    renamed = _find_renamed(old.intents, new.intents)
    return [
        *_list_names("intent", old.intents, new.intents, renamed),
        *(
            change
            for name, entry in new.intents.items()
            if name in old.intents
            for change in _compare_intents(name, old.intents[name], entry)
        ),
    ]


def _compare_intents(intent: str, old: IntentEntry, new: IntentEntry) -> Iterator[str]:
    yield from _compare_fields(intent, old, new, ("description", "order", "examples"))
    before = {slot.name: slot for slot in old.slots}
    after = {slot.name: slot for slot in new.slots}
    renamed = _find_renamed(
        {name: slot.model_copy(update={"name": ""}) for name, slot in before.items()},
        {name: slot.model_copy(update={"name": ""}) for name, slot in after.items()},
    )
    for change in _list_names("slot", before, after, renamed):
        yield f"{intent}: {change}"
    common = [name for name in after if name in before]
    if common != [name for name in before if name in after]:
        yield f"{intent}: other order of the slots: {_enumerate(after)}"
    for name in common:
        yield from _compare_slots(f"{intent}.{name}", before[name], after[name])


def _compare_slots(slot: str, old: SlotEntry, new: SlotEntry) -> Iterator[str]:
    yield from _compare_fields(slot, old, new, ("description", "type", "examples"))
    yield from (f"{slot}: {change}" for change in _list_names("value", old.values, new.values, {}))
    common = (value for value in new.values if value in old.values)
    changed = [value for value in common if set(new.values[value]) != set(old.values[value])]
    if changed:
        yield f"{slot}: other synonyms of {_enumerate(changed)}"


def _compare_fields(
    place: str, old: IntentEntry | SlotEntry, new: IntentEntry | SlotEntry, names: Collection[str]
) -> Iterator[str]:
    for name in names:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        is_short = name in ("order", "type")
        yield (
            f"{place}: {name} {after} instead of {before}"
            if is_short
            else f"{place}: {name} changed"
        )


def _list_names(
    kind: str, old: Collection[str], new: Collection[str], renamed: Mapping[str, str]
) -> Iterator[str]:
    added = [name for name in new if name not in old and name not in renamed.values()]
    removed = [name for name in old if name not in new and name not in renamed]
    for verb, names in (("added", added), ("removed", removed)):
        if names:
            yield f"{kind}{'s' if len(names) > 1 else ''} {verb}: {_enumerate(names)}"
    for before, after in renamed.items():
        yield f"{kind} renamed: {before} is now {after}"


def _find_renamed(old: Mapping[str, EntryT], new: Mapping[str, EntryT]) -> dict[str, str]:
    """Return the new name of each entry that is only named otherwise, and like no other entry.

    An entry without content is like any other one: it counts as removed.
    """
    renamed = {}
    for name, entry in old.items():
        like = [other for other in new if new[other] == entry and other not in old]
        twins = [other for other in old if old[other] == entry and other not in new]
        if name not in new and _has_content(entry) and (len(like), len(twins)) == (1, 1):
            renamed[name] = like[0]
    return renamed


def _has_content(entry: IntentEntry | SlotEntry) -> bool:
    return bool(entry.model_dump(exclude_defaults=True, exclude={"name"}))


def _enumerate(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown
