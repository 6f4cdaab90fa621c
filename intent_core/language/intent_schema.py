"""The intent schema of a dataset: its intents, and the arguments seen with each."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from intent_core.language.calls import Call

# A value as `calls.py` writes it: plain, or in quotes. No lookarounds: engines for structured
# outputs do not support them.
_PLAIN = r"[^,;()=\\\s，；（）]"
_QUOTED = r'"(?:[^"\\\x00-\x1f]|\\["\\nrt]|\\u[0-9a-f]{4})*"'
_INNER = r"[^,;()=\\，；（）\x00-\x1f\x7f\x85\u2028\u2029]"
_VALUE = rf'(?:{_QUOTED}|[^",;()=\\\s，；（）](?:{_INNER}*{_PLAIN})?)'


class IntentSchema(BaseModel):
    """One intent as the labels use it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intent: str
    num_utterances: int
    """Number of utterances with this intent; twice in one utterance counts once."""
    slot_counts: dict[int, int]
    """Number of calls by their number of arguments."""
    slot_names: dict[str, int]
    """Number of arguments by slot name, where labels state it."""


def list_intents(labels: Iterable[Iterable[Call]]) -> tuple[IntentSchema, ...]:
    """Return the intent schema of some labels, sorted by intent name.

    Args:
        labels: the calls of each utterance.
    """
    utterances: Counter[str] = Counter()
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for calls in labels:
        utterances.update({call.intent for call in calls})
        for call in calls:
            counts[call.intent][len(call.arguments)] += 1
            names[call.intent].update(a.name for a in call.arguments if a.name)
    return tuple(
        IntentSchema(
            intent=intent,
            num_utterances=utterances[intent],
            slot_counts=dict(sorted(counts[intent].items())),
            slot_names=dict(sorted(names[intent].items())),
        )
        for intent in sorted(utterances)
    )


def write_regex(schemas: Iterable[IntentSchema]) -> str:
    """Return a regular expression for constrained decoding that matches all allowed answers.

    An answer is one or more calls of known intents. The number of arguments of a call is between
    the smallest and the largest number seen with its intent.

    Args:
        schemas: the intent schema.
    """
    calls = "|".join(_write_call(schema) for schema in schemas)
    return f"(?:{calls})(?:;(?:{calls}))*"


def _write_call(schema: IntentSchema) -> str:
    argument = _VALUE
    if schema.slot_names:
        argument = rf"(?:(?:{'|'.join(map(re.escape, schema.slot_names))})=)?{_VALUE}"
    least, most = min(schema.slot_counts), max(schema.slot_counts)
    if most == 0:
        arguments = ""
    else:
        arguments = rf"{argument}(?:,{argument}){{{max(least, 1) - 1},{most - 1}}}"
        arguments = f"(?:{arguments})?" if least == 0 else arguments
    return rf"{re.escape(schema.intent)}\({arguments}\)"
