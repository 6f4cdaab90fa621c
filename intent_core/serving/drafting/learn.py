"""Learns a draft table from labelled utterances: counts, and a regression of where values are."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from intent_core.language.calls import Call
from intent_core.serving.drafting.table import DraftTable, PromptMarks, slot_key
from intent_core.serving.drafting.units import (
    Tag,
    Unit,
    list_features,
    list_tag_features,
    split_units,
)
from intent_core.serving.drafting.utterance import find_spans, to_chances

_TURNS, _RATE = 4, 0.3
_MOST_UNITS = 60_000
"""Of the utterances that the regression learns from: some seconds of one core."""
_MOST_WEIGHTS, _MOST_WORDS, _MOST_VALUES, _MOST_SLOTS = 12_000, 4_000, 1_000, 2_000
_LEAST_SEEN = 2
"""Words, values and features of a single row are not kept."""

_ByName = defaultdict[str, Counter[str]]


@dataclass(frozen=True)
class _TaggedRow:
    units: list[Unit]
    tags: list[Tag]
    intents: list[str]
    """The intent of the call that each unit belongs to."""


@dataclass
class _LabelCounts:
    intents: Counter[str] = field(default_factory=Counter)
    words: _ByName = field(default_factory=lambda: defaultdict(Counter))
    following: _ByName = field(default_factory=lambda: defaultdict(Counter))
    same_call: defaultdict[str, list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )
    slots: _ByName = field(default_factory=lambda: defaultdict(Counter))
    values: _ByName = field(default_factory=lambda: defaultdict(Counter))
    rows: list[_TaggedRow] = field(default_factory=list)


def learn_table(rows: Iterable[tuple[str, Sequence[Call]]], marks: PromptMarks) -> DraftTable:
    """Return the draft table of labelled utterances; equal rows give equal tables.

    Args:
        rows: the utterances of a training split with their calls.
        marks: the tokens around an utterance in the model's prompts.
    """
    seen = _LabelCounts()
    for utterance, calls in rows:
        if calls:
            _add(seen, utterance, calls)
    return DraftTable(
        marks=marks,
        intents=dict(sorted(seen.intents.items())),
        words=_keep_most(seen.words, _MOST_WORDS),
        following=_keep_most(seen.following, len(seen.following), least=1),
        same_call={name: (same, new) for name, (same, new) in sorted(seen.same_call.items())},
        slots=_keep_named(seen.slots),
        values=_keep_values(seen.values),
        weights=_learn_weights(_limit(seen.rows)),
    )


def _add(seen: _LabelCounts, utterance: str, calls: Sequence[Call]) -> None:
    units = split_units(utterance)
    seen.intents.update(call.intent for call in calls)
    seen.following[""][calls[0].intent] += 1
    for number, call in enumerate(calls):
        later = calls[number + 1 :]
        _add_arguments(seen, utterance, call)
        seen.same_call[call.intent][0] += max(0, len(call.arguments) - 1)
        seen.same_call[call.intent][1] += any(other.arguments for other in later)
        seen.following[call.intent][later[0].intent if later else ""] += 1
    row = _tag(utterance, units, calls)
    for word, intent in {(u.word, name) for u, name in zip(units, row.intents, strict=True)}:
        seen.words[word][intent] += 1
    seen.rows.append(row)


def _add_arguments(seen: _LabelCounts, utterance: str, call: Call) -> None:
    before = ""
    for argument in call.arguments:
        name = argument.name or ""
        words = split_units(utterance[: max(0, utterance.find(argument.value))])
        seen.slots[call.intent][name] += 1
        seen.slots[slot_key(call.intent, words[-1].word if words else "", before)][name] += 1
        before = name
        if argument.value not in utterance:
            seen.values[call.intent][argument.value] += 1


def _tag(utterance: str, units: list[Unit], calls: Sequence[Call]) -> _TaggedRow:
    """Return where the values are, supposing that they are in the order of the utterance."""
    tags = [Tag.OUTSIDE] * len(units)
    intents = [calls[-1].intent] * len(units)
    done = 0
    for call in calls:
        for argument in call.arguments:
            span = _locate(utterance, units, argument.value, done)
            if span:
                intents[done : span[1]] = [call.intent] * (span[1] - done)
                tags[span[0] : span[1]] = [Tag.FIRST, *[Tag.INSIDE] * (span[1] - span[0] - 1)]
                done = span[1]
    return _TaggedRow(units, tags, intents)


def _locate(utterance: str, units: Sequence[Unit], value: str, done: int) -> tuple[int, int] | None:
    """Return the first unit of a value's first place after some units, and the unit after it."""
    starts = {unit.start: number for number, unit in enumerate(units[done:], start=done)}
    ends = {unit.end: number + 1 for number, unit in enumerate(units)}
    if not value or not starts:
        return None
    for at in find_spans(utterance, value, min(starts)):
        if at in starts and at + len(value) in ends:
            return starts[at], ends[at + len(value)]
    return None


def _limit(rows: list[_TaggedRow]) -> list[_TaggedRow]:
    """Return evenly spaced rows with a limited number of units."""
    step = math.ceil(sum(len(row.units) for row in rows) / _MOST_UNITS)
    return rows[:: max(1, step)]


def _learn_weights(rows: Sequence[_TaggedRow]) -> dict[str, tuple[int, int, int]]:
    """Fit a multinomial logistic regression of the tags, by stochastic gradient descent."""
    examples = [
        (list(_features(row, at)), row.tags[at]) for row in rows for at in range(len(row.units))
    ]
    seen = Counter(feature for features, _ in examples for feature in features)
    kept = {feature for feature, count in seen.items() if count >= _LEAST_SEEN}
    weights = _descend([([f for f in features if f in kept], tag) for features, tag in examples])
    strongest = sorted(weights, key=lambda name: (-max(map(abs, weights[name])), name))
    rounded = {name: _round(weights[name]) for name in sorted(strongest[:_MOST_WEIGHTS])}
    return {name: values for name, values in rounded.items() if any(values)}


def _features(row: _TaggedRow, at: int) -> Iterator[str]:
    before = row.tags[at - 1] if at else Tag.OUTSIDE
    yield from list_features(row.units, at, row.intents[at])
    yield from list_tag_features(row.units, at, row.intents[at], before)


def _descend(examples: Sequence[tuple[list[str], Tag]]) -> dict[str, list[float]]:
    """Return the weights after a few turns over the examples, with the step sizes of AdaGrad."""
    weights: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    squares: defaultdict[str, list[float]] = defaultdict(lambda: [1.0, 1.0, 1.0])
    for _ in range(_TURNS):
        for features, tag in examples:
            added = [weights[name] for name in features]
            error = to_chances([sum(column) for column in zip(*added, strict=True)])
            error[tag] -= 1.0
            for name in features:
                _step(weights[name], squares[name], error)
    return weights


def _step(weight: list[float], square: list[float], error: Sequence[float]) -> None:
    for at, gradient in enumerate(error):
        square[at] += gradient * gradient
        weight[at] -= _RATE * gradient / math.sqrt(square[at])


def _round(weight: Sequence[float]) -> tuple[int, int, int]:
    outside, first, inside = (round(100 * value) for value in weight)
    return outside, first, inside


def _keep_named(slots: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """Return the names of arguments; nothing if most arguments are unnamed."""
    total = sum((names.total() for names in slots.values()), 0)
    unnamed = sum(names[""] for names in slots.values())
    return _keep_most(slots, _MOST_SLOTS) if 2 * unnamed < total else {}


def _keep_values(values: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    each = _MOST_VALUES // max(1, len(values))
    kept = {
        intent: Counter({value: n for value, n in known.most_common(each) if n >= _LEAST_SEEN})
        for intent, known in values.items()
    }
    return _keep_most(kept, len(kept))


def _keep_most(
    counts: dict[str, Counter[str]], most: int, least: int = _LEAST_SEEN
) -> dict[str, dict[str, int]]:
    """Return the keys with the largest counts, sorted."""
    by_count = sorted(counts, key=lambda key: (-counts[key].total(), key))
    return {
        key: dict(sorted(counts[key].items()))
        for key in sorted(by_count[:most])
        if counts[key].total() >= least
    }
