"""The documents' rules for training data, as findings. A finding informs; it stops nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.calls import Call

MIN_UTTERANCES_PER_INTENT = 50
MIN_MULTI_INTENT_SHARE = 0.2
MAX_IMBALANCE = 10

Labels = Sequence[tuple[Call, ...]]


class Finding(BaseModel):
    """One rule the dataset does not keep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Literal["warning", "note"]
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity} {self.code}: {self.message}"


def check_quality(train: Labels, test: Labels = ()) -> tuple[Finding, ...]:
    """Findings over the calls of the training split, and over what only the test split asks."""
    counts = count_intents(train)
    found = [
        _check_amount(counts),
        _check_balance(counts),
        *_check_multi_intent(train),
        _check_unseen(counts, count_intents(test)),
    ]
    return tuple(finding for finding in found if finding)


def count_intents(labels: Labels) -> dict[str, int]:
    """Utterances per intent, by name; an intent twice in one utterance counts once."""
    counts = Counter(intent for calls in labels for intent in {call.intent for call in calls})
    return dict(sorted(counts.items()))


def _check_amount(counts: Mapping[str, int]) -> Finding | None:
    few = {i: n for i, n in counts.items() if n < MIN_UTTERANCES_PER_INTENT}
    if not few:
        return None
    listed = _list_some(f"{i} {n}" for i, n in sorted(few.items(), key=lambda item: item[1]))
    message = f"{len(few)} intent(s) have under {MIN_UTTERANCES_PER_INTENT} utterances: {listed}"
    return Finding(severity="warning", code="few-utterances", message=message)


def _check_balance(counts: Mapping[str, int]) -> Finding | None:
    if not counts:
        return None
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] <= MAX_IMBALANCE * counts[least]:
        return None
    message = f"{most} has {counts[most]} utterances, {least} {counts[least]}"
    return Finding(severity="note", code="imbalance", message=message)


def _check_multi_intent(train: Labels) -> list[Finding]:
    multi = [calls for calls in train if len(calls) > 1]
    alone = {calls[0].intent for calls in train if len(calls) == 1}
    found = []
    singles = len(train) - len(multi)
    if multi and len(multi) < MIN_MULTI_INTENT_SHARE * singles:
        message = f"{len(multi)} multi-intent utterances to {singles} single: at least 20 % wanted"
        found.append(Finding(severity="warning", code="few-multi-intent", message=message))
    never_alone = sorted({call.intent for calls in multi for call in calls} - alone)
    if never_alone:
        message = f"only ever beside another intent: {_list_some(never_alone)}"
        found.append(Finding(severity="warning", code="never-alone", message=message))
    return found


def _check_unseen(train: Mapping[str, int], test: Mapping[str, int]) -> Finding | None:
    unseen = [intent for intent in test if intent not in train]
    if not unseen:
        return None
    message = f"in the test split but never trained: {_list_some(unseen)}"
    return Finding(severity="warning", code="unseen-intent", message=message)


def _list_some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return ", ".join(listed[:10]) + more
