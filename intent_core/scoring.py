"""One gold answer against one prediction: what is right, and the reason when it is not.

Two scorers live here. `compare_calls` is ours: order-insensitive over calls, strict over
arguments. `documents_score` gives the numbers of the documents' evaluation script, faults
included (it sees only the first call and forgets order and repetition), for comparison.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.calls import Call

Reason = Literal[
    "malformed",
    "missing_prediction",
    "wrong_intent",
    "missing_call",
    "extra_call",
    "missing_value",
    "extra_value",
    "wrong_value",
    "wrong_order",
]
Slot = tuple[str, int | str, str]
"""(intent, position or name, value)"""


class Comparison(BaseModel):
    """A prediction that parsed, compared with its gold calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intents_right: bool
    parameters_right: bool
    exact: bool
    reason: Reason | None = None


def compare_calls(gold: Sequence[Call], predicted: Sequence[Call]) -> Comparison:
    """Compare as multisets of calls, and then in order."""
    intents_right = Counter(c.intent for c in gold) == Counter(c.intent for c in predicted)
    # A matching that pairs only equal calls exists exactly when the multisets are equal.
    parameters_right = _call_counts(gold) == _call_counts(predicted)
    exact = tuple(gold) == tuple(predicted)
    return Comparison(
        intents_right=intents_right,
        parameters_right=parameters_right,
        exact=exact,
        reason=None if exact else _explain(gold, predicted),
    )


def slot_counts(calls: Sequence[Call]) -> Counter[Slot]:
    """Every slot of the calls, with its number of occurrences."""
    return Counter(slot for call in calls for slot in _slots(call))


def documents_score(gold: str, predicted: str) -> tuple[int, int]:
    """(intent right, parameters right) as the documents count; where their script dies, wrong."""
    first = gold.partition(";")[0]
    if first.partition("(")[0] != predicted.partition("(")[0]:
        return 0, 0
    expected, found = _documents_values(first), _documents_values(predicted)
    if expected is None or found is None:
        return 0, 0
    return 1, int(expected == found)


def _documents_values(text: str) -> frozenset[str] | None:
    """The set between the first two `(`, its last character dropped unseen; None: no `(`."""
    _, bracket, rest = text.strip()[:-1].partition("(")
    return frozenset(rest.partition("(")[0].split(",")) if bracket else None


def _slots(call: Call) -> list[Slot]:
    """Unnamed arguments count by position among themselves, named ones by name."""
    slots: list[Slot] = []
    position = 0
    for argument in call.arguments:
        if argument.name is not None:
            slots.append((call.intent, argument.name, argument.value))
        else:
            slots.append((call.intent, position, argument.value))
            position += 1
    return slots


def _call_counts(calls: Sequence[Call]) -> Counter[tuple[str, frozenset[tuple[Slot, int]]]]:
    return Counter((c.intent, frozenset(Counter(_slots(c)).items())) for c in calls)


def _explain(gold: Sequence[Call], predicted: Sequence[Call]) -> Reason:
    """The first thing that is wrong, intents before values before order."""
    expected, found = Counter(c.intent for c in gold), Counter(c.intent for c in predicted)
    if expected != found:
        if expected - found and found - expected:
            return "wrong_intent"
        return "missing_call" if expected - found else "extra_call"
    wanted, given = _values(gold), _values(predicted)
    if wanted != given:
        if wanted - given and given - wanted:
            return "wrong_value"
        return "missing_value" if wanted - given else "extra_value"
    return "wrong_order" if _names(gold) == _names(predicted) else "wrong_value"


def _values(calls: Sequence[Call]) -> Counter[tuple[str, str]]:
    return Counter((call.intent, argument.value) for call in calls for argument in call.arguments)


def _names(calls: Sequence[Call]) -> Counter[str | None]:
    return Counter(argument.name for call in calls for argument in call.arguments)
