"""The intent schema of a dataset: its intents, and the arguments seen with each."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from intent_core.language.calls import Call


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
