"""Rules of the data check for the values of a label: their order, and commas within a value."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from intent_core.language.calls import Call
from intent_core.language.utterances import normalise_utterance, squeeze_utterance
from intent_core.quality.findings import Corpus, RuleResult, is_slip, list_some, note

_MIN_ORDERED = 5
"""Fewest labels in order of appearance that make this order a habit."""
_MIN_APART = 3
"""As many calls with the same number of values, none joined by a comma, show that all values of
such a call are values."""
_COMMA = re.compile("[,，、]")
_SEPARATOR = rf"\s*{_COMMA.pattern}\s*"
_OPEN, _CLOSED = "[{<《【「『", "]}>》】」』"
_MONTH = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_DAY = r"\d{1,2}(?:[snrt][tdh])?"
# Two values that are one: 1,000; March 5, 2024; Friday, March 5.
_ONE = re.compile(
    rf"(?:^|\D)\d{{1,3}},\d{{3}}(?:\D|$)|"
    rf"\b(?:(?:{_MONTH})\.? {_DAY}|{_DAY} (?:{_MONTH})\.?),\d{{4}}\b"
)


def check_values(corpus: Corpus) -> Iterable[RuleResult]:
    """Yield the findings about the order of values, and about values with a comma.

    Args:
        corpus: the input of the data check.
    """
    yield from _check_order(corpus)
    yield from _check_commas(corpus)


def _check_order(corpus: Corpus) -> Iterable[RuleResult]:
    in_order: Counter[str] = Counter()
    others: list[tuple[int, Call]] = []
    for row, (utterance, calls) in enumerate(zip(corpus.utterances, corpus.labels, strict=True)):
        text = squeeze_utterance(utterance)
        for call in calls:
            values = [squeeze_utterance(a.value) for a in call.arguments if a.name is None]
            if len(values) < 2 or not all(value and value in text for value in values):
                continue
            if is_in_order(text, values):
                in_order[call.intent] += 1
            else:
                others.append((row, call))
    num_others = Counter(call.intent for _, call in others)
    num_ordered = in_order.total()
    is_habit = num_ordered >= _MIN_ORDERED and is_slip(len(others), num_ordered)
    rows = [
        corpus.describe(row, intent=call.intent)
        for row, call in others
        if is_habit or is_slip(num_others[call.intent], in_order[call.intent])
    ]
    if rows:
        listed = list_some(f"{row['output']} for {row['utterance']!r}" for row in rows[:3])
        yield note(
            "value-order",
            f"{len(rows)} label(s) have values in another order than the utterance, which the "
            f"others keep, e.g. {listed}",
            "Label values in the order in which the utterance has them.",
            rows,
            num_utterances=len(rows),
        )


def is_in_order(text: str, values: Sequence[str]) -> bool:
    """Return whether a text has values one after the other, without overlap.

    Args:
        text: the text.
        values: parts of it.
    """
    position = 0
    for value in values:
        start = text.find(value, position)
        if start < 0:
            return False
        position = start + len(value)
    return True


def _check_commas(corpus: Corpus) -> Iterable[RuleResult]:
    known = {
        squeeze_utterance(a.value)
        for calls in corpus.labels
        for call in calls
        for a in call.arguments
    }
    apart: Counter[tuple[str, int]] = Counter()
    joined: list[tuple[int, Call, str]] = []
    for row, (utterance, calls) in enumerate(zip(corpus.utterances, corpus.labels, strict=True)):
        text = normalise_utterance(utterance)
        for call in calls:
            values = list(_find_joined(text, call))
            joined += [(row, call, value) for value in values]
            if not values:
                apart[call.intent, len(call.arguments)] += 1
    rows = [
        corpus.describe(row, value=value)
        for row, call, value in joined
        if apart[call.intent, len(call.arguments)] < _MIN_APART or _is_one(value, known)
    ]
    if rows:
        listed = list_some(f"{row['value']!r} in {row['utterance']!r}" for row in rows[:3])
        yield note(
            "joined-values",
            f"{len(rows)} value(s) may be one value with a comma or bracket, not several, e.g. "
            f"{listed}",
            'Put a value with a comma in quotes: send("1,000").',
            rows,
            num_values=len(rows),
        )


def _find_joined(text: str, call: Call) -> Iterator[str]:
    """Yield runs of values that the utterance has with commas between them."""
    arguments = call.arguments
    if len(arguments) < 2 or not _COMMA.search(text):
        return
    start = 0
    while start < len(arguments) - 1:
        stop, whole = start + 1, ""
        while stop < len(arguments) and arguments[stop].name is None:
            parts = [normalise_utterance(a.value) for a in arguments[start : stop + 1]]
            match = re.search(_SEPARATOR.join(map(re.escape, parts)), text)
            if not match or not all(parts):
                break
            whole = match[0]
            stop += 1
        if whole:
            yield whole
        start = stop


def _is_one(value: str, known: set[str]) -> bool:
    """Return whether a text with commas is certainly one value."""
    parts = re.split(_SEPARATOR, value)
    brackets = (sum(part.count(sign) for sign in _OPEN) for part in parts)
    closing = (sum(part.count(sign) for sign in _CLOSED) for part in parts)
    has_open = any(a != b for a, b in zip(brackets, closing, strict=True))
    tight = re.sub(_SEPARATOR, ",", value)
    return has_open or bool(_ONE.search(tight)) or "".join(map(squeeze_utterance, parts)) in known
