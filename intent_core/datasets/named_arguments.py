"""Labels with the slot of each value in them: `weather_search(city=Hangzhou)`.

A call gets names only if the vocabulary names all of its values (`language/slot_names.py`); any
other call keeps its label, and a finding has its row.
"""

from collections.abc import Iterable, Sequence

import msgspec

from intent_core.exports.records import Record, describe_place
from intent_core.language.calls import Call, format_calls, parse_calls
from intent_core.language.slot_names import name_slots
from intent_core.language.vocabulary import Vocabulary
from intent_core.quality.findings import RuleResult, note


def name_arguments(records: Iterable[Record], vocabulary: Vocabulary) -> list[Record]:
    """Return records whose labels have the names of slots where the vocabulary gives them.

    Args:
        records: the usable rows of an export or of a fixed test set.
        vocabulary: the intents and their slots.
    """
    return [
        msgspec.structs.replace(
            record,
            output=_name_label(record.output, vocabulary),
            alternatives=tuple(_name_label(text, vocabulary) for text in record.alternatives),
        )
        for record in records
    ]


def report_unnamed(records: Sequence[Record]) -> list[RuleResult]:
    """Return the finding about labels with values that have no name; empty if all have one.

    Args:
        records: records of `name_arguments`.
    """
    rows = [
        {"utterance": record.utterance, "output": record.output, **describe_place(record)}
        for record in records
        if _has_unnamed(record.output)
    ]
    if not rows:
        return []
    return [
        note(
            "unnamed-values",
            f"{len(rows)} of {len(records)} labels have values without the name of a slot: the "
            "vocabulary does not name all values of the call",
            "add the slots, their types and values to intents.yaml, set order: fixed where the "
            "places decide, or write the names into the labels",
            rows,
            num_unnamed=len(rows),
        )
    ]


def _name_label(text: str, vocabulary: Vocabulary) -> str:
    return format_calls(_name_call(call, vocabulary) for call in parse_calls(text))


def _name_call(call: Call, vocabulary: Vocabulary) -> Call:
    names = name_slots(call, vocabulary)
    if None in names:
        return call
    pairs = zip(call.arguments, names, strict=True)
    named = tuple(argument.model_copy(update={"name": name}) for argument, name in pairs)
    return call.model_copy(update={"arguments": named})


def _has_unnamed(text: str) -> bool:
    return any(not argument.name for call in parse_calls(text) for argument in call.arguments)
