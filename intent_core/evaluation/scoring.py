"""Scores one answer against its label and gives the reason for a failure.

There are two scorers. `compare_calls` is the project's own: strict about arguments, and strict
about the order of calls only if requested. `documents_score` reproduces the PAI guide's evaluation
script for comparison, with its flaws: it compares the first call only and ignores the order and
repetition of values.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

from intent_core.datasets.manifest import Example
from intent_core.errors import CallSyntaxError, DataError
from intent_core.evaluation.call_matching import Pair, Slot, match_calls, slots_of
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import FailureReason
from intent_core.evaluation.value_normalization import normalise_value, sort_kinds
from intent_core.language.calls import Argument, Call, is_plain, parse_calls, sort_named
from intent_core.language.invisible import fold_invisible, may_have_invisible, strip_invisible
from intent_core.recipe.choices import Normalisation
from intent_core.recipe.config import EvaluateConfig

Calls = tuple[Call, ...]


class CallComparison(NamedTuple):
    """The comparison of an answer with a label; slots count in calls of the same intent only."""

    intents_right: bool
    parameters_right: bool
    exact: bool
    reason: FailureReason | None
    slot_hits: int
    slots_expected: int
    slots_found: int
    pairs: tuple[Pair, ...]
    """The matched intents (labelled, answered), one pair per call."""


class ScoredAnswer(NamedTuple):
    """The labelled calls, the answered calls (None: unparsable or missing), their comparison."""

    gold: Calls
    answer: Calls | None
    comparison: CallComparison
    kinds: tuple[Normalisation, ...] = ()
    """Kinds of normalisation without which the answer would be less right."""


def score_answer(
    example: Example, prediction: Prediction | None, config: EvaluateConfig
) -> ScoredAnswer:
    """Compare an answer with the label or with the alternative that it matches best.

    Raises:
        DataError: the label or an alternative does not parse.
    """
    gold = _parse_label(example, example.output)
    others = [_parse_label(example, text) for text in example.alternatives]
    if prediction is None or prediction.is_absent:
        return ScoredAnswer(gold, None, _unusable(gold, "missing_prediction"))
    if prediction.error is None and prediction.text == example.output:
        return ScoredAnswer(gold, gold, compare_calls(gold, gold))
    answer = _parse_answer(prediction)
    if answer is None:
        return ScoredAnswer(gold, None, _unusable(gold, "malformed"))
    labels = (gold, *others)
    kinds = config.normalise_values
    comparison = _compare_best(labels, answer, kinds, config)
    if not kinds or not comparison.parameters_right:
        return ScoredAnswer(gold, answer, comparison)
    if _rightness(_compare_best(labels, answer, (), config)) == _rightness(comparison):
        return ScoredAnswer(gold, answer, comparison)
    return ScoredAnswer(gold, answer, comparison, _find_needed(labels, answer, config))


def _compare_best(
    labels: Sequence[Calls], answer: Calls, kinds: Collection[Normalisation], config: EvaluateConfig
) -> CallComparison:
    compared = _normalise(answer, kinds)
    comparisons = [
        compare_calls(_normalise(label, kinds), compared, ordered=config.ordered_calls)
        for label in labels
    ]
    return max(comparisons, key=_nearness)


def _find_needed(
    labels: Sequence[Calls], answer: Calls, config: EvaluateConfig
) -> tuple[Normalisation, ...]:
    """Return the kinds that are left after dropping, one by one, all that change nothing."""
    needed = sort_kinds(config.normalise_values)
    best = _rightness(_compare_best(labels, answer, needed, config))
    for kind in needed:
        fewer = tuple(other for other in needed if other != kind)
        if _rightness(_compare_best(labels, answer, fewer, config)) == best:
            needed = fewer
    return needed


def compare_calls(
    gold: Sequence[Call], predicted: Sequence[Call], *, ordered: bool = False
) -> CallComparison:
    """Compare as multisets of calls, or as sequences if `ordered`; `exact` always as sequences."""
    expected = _num_slots(gold)
    if gold is predicted or sort_named(gold) == sort_named(predicted):
        pairs = tuple((call.intent, call.intent) for call in gold)
        return CallComparison(True, True, True, None, expected, expected, expected, pairs)
    intents = [call.intent for call in gold], [call.intent for call in predicted]
    contents = [_content(call) for call in gold], [_content(call) for call in predicted]
    matching = match_calls(gold, predicted)
    return CallComparison(
        intents_right=_alike(*intents, ordered=ordered),
        # A matching that pairs only equal calls exists exactly when the multisets are equal.
        parameters_right=_alike(*contents, ordered=ordered),
        exact=False,
        reason=_explain(gold, predicted),
        slot_hits=matching.slot_hits,
        slots_expected=expected,
        slots_found=_num_slots(predicted),
        pairs=matching.pairs,
    )


def slot_counts(calls: Sequence[Call]) -> Counter[Slot]:
    """Return the slots of the calls with their number of occurrences."""
    return sum((slots_of(call) for call in calls), Counter())


def documents_score(gold: str, predicted: str) -> tuple[int, int]:
    """Return (intent right, parameters right), 0 or 1 each, as the PAI guide's script counts.

    Both are 0 for answers on which the script would raise an exception.
    """
    first = gold.partition(";")[0]
    if first.partition("(")[0] != predicted.partition("(")[0]:
        return 0, 0
    expected, answered = _documents_values(first), _documents_values(predicted)
    if expected is None or answered is None:
        return 0, 0
    return 1, int(expected == answered)


def _documents_values(text: str) -> frozenset[str] | None:
    """Return the values as the script reads them; None if there is no `(`.

    The script drops the last character, whatever it is, and ignores all text after a second `(`.
    """
    _, bracket, rest = text.strip()[:-1].partition("(")
    return frozenset(rest.partition("(")[0].split(",")) if bracket else None


def _parse_label(example: Example, text: str) -> Calls:
    try:
        return _parse(text)
    except CallSyntaxError as error:
        raise DataError(
            f"example {example.id!r}: the label {text!r} does not parse as calls: {error}"
        ) from error


def _parse_answer(prediction: Prediction) -> Calls | None:
    if prediction.error is not None:
        return None
    try:
        return _parse(prediction.text)
    except CallSyntaxError:
        return None


def _parse(text: str) -> Calls:
    """Parse like `parse_calls`, but cache calls, because labels repeat them."""
    if is_plain(text):  # then every ; separates two calls
        return tuple(_parse_call(call) for call in text.split(";"))
    return parse_calls(strip_invisible(text))


@lru_cache(maxsize=1 << 16)
def _parse_call(text: str) -> Call:
    return parse_calls(text)[0]


def _unusable(gold: Calls, reason: FailureReason) -> CallComparison:
    pairs = tuple((call.intent, None) for call in gold)
    return CallComparison(False, False, False, reason, 0, _num_slots(gold), 0, pairs)


def _nearness(comparison: CallComparison) -> tuple[bool, bool, bool, int]:
    return (*_rightness(comparison), comparison.intents_right, comparison.slot_hits)


def _rightness(comparison: CallComparison) -> tuple[bool, bool]:
    return comparison.exact, comparison.parameters_right


def _normalise(calls: Calls, kinds: Collection[Normalisation]) -> Calls:
    """The calls as they are compared: never by what a reader cannot see."""
    if not kinds and all(map(_is_comparable, calls)):
        return calls
    return tuple(
        Call.model_construct(
            intent=unicodedata.normalize("NFC", call.intent),
            arguments=tuple(
                Argument.model_construct(
                    value=_normalise_text(argument.value, kinds), name=argument.name
                )
                for argument in call.arguments
            ),
        )
        for call in calls
    )


def _normalise_text(value: str, kinds: Collection[Normalisation]) -> str:
    return normalise_value(unicodedata.normalize("NFC", fold_invisible(value)), kinds)


def _is_comparable(call: Call) -> bool:
    """Whether intent and values are composed, without an invisible character."""
    return _is_composed(call.intent) and all(_is_composed(a.value) for a in call.arguments)


def _is_composed(text: str) -> bool:
    return text.isascii() or (
        not may_have_invisible(text) and unicodedata.is_normalized("NFC", text)
    )


def _num_slots(calls: Sequence[Call]) -> int:
    return sum(len(call.arguments) for call in calls)


def _content(call: Call) -> tuple[str, frozenset[tuple[Slot, int]]]:
    return call.intent, frozenset(slots_of(call).items())


def _alike(mine: Sequence[object], theirs: Sequence[object], *, ordered: bool) -> bool:
    return mine == theirs if ordered else Counter(mine) == Counter(theirs)


def _explain(gold: Sequence[Call], predicted: Sequence[Call]) -> FailureReason:
    """Return the first difference: intents before values before order."""
    expected, answered = Counter(c.intent for c in gold), Counter(c.intent for c in predicted)
    if expected != answered:
        if expected - answered and answered - expected:
            return "wrong_intent"
        return "missing_call" if expected - answered else "extra_call"
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
