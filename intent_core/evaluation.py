"""Predictions against examples: the report that the gate decides on.

Every example counts. An answer that does not parse, one that came with an error, and one
that never came are wrong; none is dropped. The rates:

    intent_accuracy      the utterance's intents are right, in any order
    parameter_accuracy   and so are every call's arguments, by position or name
    exact_match          and so is the order of the calls
    parse_rate           the answer is a list of calls at all
    unknown_intent_rate  the answer has an intent that training never showed
    slot_f1              micro F1 over (intent, position or name, value)
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from intent_core.calls import Call, parse_calls
from intent_core.dataset import Example
from intent_core.errors import CallSyntaxError, DataError
from intent_core.scoring import Comparison, Reason, compare_calls, documents_score, slot_counts
from intent_core.statistics import wilson_interval

MOST_NAMED = 5


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prediction(_Value):
    """What a model answered to one example; `error` when it did not, or not properly."""

    example_id: str
    text: str
    error: str | None = None
    latency_ms: float | None = None
    confidence: float | None = None
    """The model's probability of this answer, all its tokens together."""


class Measure(_Value):
    """A rate with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    successes: int
    total: int


class IntentScore(_Value):
    """The rates over the utterances whose gold has this intent."""

    intent: str
    support: int
    intent_accuracy: float
    parameter_accuracy: float
    exact_match: float


class Failure(_Value):
    """An example that was not matched exactly; `predicted` is the raw answer."""

    example_id: str
    instruction: str
    expected: str
    predicted: str
    reason: Reason


class DocumentsScore(_Value):
    """The documents' two numbers, by their rule: see `documents_score`."""

    intent_accuracy: float
    parameter_accuracy: float


class EvaluationReport(_Value):
    """How well one artifact answers one test split."""

    artifact_digest: str
    test_fingerprint: str
    num_examples: int
    intent_accuracy: Measure
    parameter_accuracy: Measure
    exact_match: Measure
    parse_rate: Measure
    slot_f1: float
    unknown_intent_rate: Measure | None = None
    """Answers with an intent that training never showed, where the catalogue was given."""
    documents: DocumentsScore
    per_intent: tuple[IntentScore, ...]
    failures: tuple[Failure, ...]
    correct_ids: tuple[str, ...]
    latency_p50_ms: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True)
class _Scored:
    example: Example
    answer: str
    gold: tuple[Call, ...]
    calls: tuple[Call, ...] | None
    comparison: Comparison
    documents: tuple[int, int]


def evaluate(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    known_intents: Collection[str] | None = None,
    artifact_digest: str = "",
    test_fingerprint: str = "",
) -> EvaluationReport:
    """Score every example; `DataError` when predictions and examples do not belong together."""
    by_id = _match(examples, predictions)
    scored = [_score(example, by_id.get(example.id)) for example in examples]
    latencies = sorted(p.latency_ms for p in predictions if p.latency_ms is not None)
    return EvaluationReport(
        artifact_digest=artifact_digest,
        test_fingerprint=test_fingerprint,
        num_examples=len(scored),
        intent_accuracy=_measure(s.comparison.intents_right for s in scored),
        parameter_accuracy=_measure(s.comparison.parameters_right for s in scored),
        exact_match=_measure(s.comparison.exact for s in scored),
        parse_rate=_measure(s.calls is not None for s in scored),
        slot_f1=_slot_f1(scored),
        unknown_intent_rate=_unknown_rate(scored, known_intents),
        documents=_documents(scored),
        per_intent=_per_intent(scored),
        failures=tuple(_failure(s, s.comparison.reason) for s in scored if s.comparison.reason),
        correct_ids=tuple(s.example.id for s in scored if s.comparison.exact),
        latency_p50_ms=_percentile(latencies, 50),
        latency_p95_ms=_percentile(latencies, 95),
    )


def _match(examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    if not examples:
        raise DataError("no examples to evaluate on: the test split is empty")
    _refuse("examples share an id", _repeated(e.id for e in examples))
    _refuse("more than one prediction for example", _repeated(p.example_id for p in predictions))
    by_id = {p.example_id: p for p in predictions}
    _refuse("predictions for unknown example", sorted(by_id.keys() - {e.id for e in examples}))
    return by_id


def _repeated(ids: Iterable[str]) -> list[str]:
    return [identifier for identifier, count in Counter(ids).items() if count > 1]


def _refuse(what: str, ids: Sequence[str]) -> None:
    if ids:
        more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
        raise DataError(f"{what}: {', '.join(map(repr, ids[:MOST_NAMED]))}{more}")


def _score(example: Example, prediction: Prediction | None) -> _Scored:
    gold = _parse_gold(example)
    answer = prediction.text if prediction else ""
    calls = _parse_answer(prediction)
    comparison = _unusable(prediction) if calls is None else compare_calls(gold, calls)
    documents = documents_score(example.output, answer) if prediction else (0, 0)
    return _Scored(example, answer, gold, calls, comparison, documents)


def _parse_gold(example: Example) -> tuple[Call, ...]:
    try:
        return parse_calls(example.output)
    except CallSyntaxError as error:
        raise DataError(
            f"example {example.id!r}: the gold output {example.output!r} is not calls: {error}"
        ) from error


def _parse_answer(prediction: Prediction | None) -> tuple[Call, ...] | None:
    if prediction is None or prediction.error is not None:
        return None
    try:
        return parse_calls(prediction.text)
    except CallSyntaxError:
        return None


def _unusable(prediction: Prediction | None) -> Comparison:
    absent = prediction is None or (prediction.error is not None and not prediction.text.strip())
    return Comparison(
        intents_right=False,
        parameters_right=False,
        exact=False,
        reason="missing_prediction" if absent else "malformed",
    )


def _measure(outcomes: Iterable[bool]) -> Measure:
    counted = list(outcomes)
    successes, total = sum(counted), len(counted)
    low, high = wilson_interval(successes, total)
    return Measure(value=successes / total, low=low, high=high, successes=successes, total=total)


def _slot_f1(scored: Sequence[_Scored]) -> float:
    """2 * hits / (expected + found); with no slot expected and none found, nothing is wrong."""
    hits = expected = found = 0
    for one in scored:
        gold, predicted = slot_counts(one.gold), slot_counts(one.calls or ())
        hits += (gold & predicted).total()
        expected += gold.total()
        found += predicted.total()
    return 2 * hits / (expected + found) if expected + found else 1.0


def _unknown_rate(scored: Sequence[_Scored], known: Collection[str] | None) -> Measure | None:
    if known is None:
        return None
    return _measure(any(call.intent not in known for call in s.calls or ()) for s in scored)


def _documents(scored: Sequence[_Scored]) -> DocumentsScore:
    return DocumentsScore(
        intent_accuracy=_share(s.documents[0] for s in scored),
        parameter_accuracy=_share(s.documents[1] for s in scored),
    )


def _per_intent(scored: Sequence[_Scored]) -> tuple[IntentScore, ...]:
    groups: defaultdict[str, list[Comparison]] = defaultdict(list)
    for one in scored:
        for intent in {call.intent for call in one.gold}:
            groups[intent].append(one.comparison)
    return tuple(
        IntentScore(
            intent=intent,
            support=len(group),
            intent_accuracy=_share(c.intents_right for c in group),
            parameter_accuracy=_share(c.parameters_right for c in group),
            exact_match=_share(c.exact for c in group),
        )
        for intent, group in sorted(groups.items())
    )


def _share(outcomes: Iterable[int]) -> float:
    counted = list(outcomes)
    return sum(counted) / len(counted)


def _failure(scored: _Scored, reason: Reason) -> Failure:
    return Failure(
        example_id=scored.example.id,
        instruction=scored.example.instruction,
        expected=scored.example.output,
        predicted=scored.answer,
        reason=reason,
    )


def _percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Nearest rank: a latency that some request really had."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else None
