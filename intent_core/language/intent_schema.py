"""What a dataset's labels can say: its intents, and the arguments seen with each."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from intent_core.language.calls import Call

# A value as `calls.py` writes it: plain, or in quotes. Without lookarounds, which no engine of
# structured outputs takes.
_PLAIN = r"[^,;()=\\\s，；（）]"
_QUOTED = r'"(?:[^"\\\x00-\x1f]|\\["\\nrt]|\\u[0-9a-f]{4})*"'
_INNER = r"[^,;()=\\，；（）\x00-\x1f\x7f\x85\u2028\u2029]"
_VALUE = rf'(?:{_QUOTED}|[^",;()=\\\s，；（）](?:{_INNER}*{_PLAIN})?)'


class IntentSchema(BaseModel):
    """One intent as the labels use it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intent: str
    num_utterances: int
    """Utterances that have it; twice in one counts once."""
    slot_counts: dict[int, int]
    """Calls by their number of arguments."""
    slot_names: dict[str, int]
    """Calls by the names of their arguments, where labels name them."""


def list_intents(labels: Iterable[Iterable[Call]]) -> tuple[IntentSchema, ...]:
    """The catalogue of some labels, by name."""
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


def write_regex(catalogue: Iterable[IntentSchema]) -> str:
    """A regular expression of all answers within the catalogue, for constrained decoding.

    One to many calls of known intents, each with as many arguments as were seen with it.
    """
    calls = "|".join(_write_call(schema) for schema in catalogue)
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
