"""Predictions against examples: the report that the gate decides on.

Every example counts. An answer that does not parse, one that came with an error, and one
that never came are wrong; none is dropped. The rates:

    intent_accuracy      the utterance's intents are right, in any order
    parameter_accuracy   and so are every call's arguments, by position or name
    exact_match          and so is the order of the calls
    parse_rate           the answer is a list of calls at all
    unknown_intent_rate  the answer has an intent that training never showed
    slots                micro precision, recall and F1 over (intent, position or name, value)

`ordered_calls`, `normalise_values` and an example's alternatives make them stricter or milder;
the documents' two numbers stay what they are, of the answer as it came against `output`.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from intent_core.datasets.manifest import Example
from intent_core.evaluation.abstention import (
    OUT_OF_SCOPE,
    abstain,
    is_below,
    is_out_of_scope,
    risk_coverage,
)
from intent_core.evaluation.call_matching import Pair
from intent_core.evaluation.prediction import Prediction, match_predictions
from intent_core.evaluation.report import (
    Abstention,
    ConfusionCell,
    DocumentsScore,
    EvaluationReport,
    Failure,
    Latency,
    Outcomes,
    Reason,
    RiskPoint,
    SlotScore,
)
from intent_core.evaluation.scoring import documents_score, score_answer
from intent_core.evaluation.slices import (
    Flags,
    Rates,
    measure,
    measure_some,
    score_intents,
    score_slices,
)
from intent_core.evaluation.statistics import f1_interval, number_groups
from intent_core.recipe.config import EvaluateConfig

__all__ = ["Prediction", "evaluate"]


class _Row(NamedTuple):
    """What is kept of one example."""

    intents: tuple[str, ...]
    has_slots: bool
    intents_right: bool
    parameters_right: bool
    exact: bool
    slot_hits: int
    slots_expected: int
    slots_found: int
    parsed: bool
    unknown: bool
    out_of_scope: bool
    answered_out_of_scope: bool
    abstained: bool
    right_unabstained: bool
    confidence: float | None
    documents: tuple[int, int]


def evaluate(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008 - frozen
    *,
    known_intents: Collection[str] | None = None,
    artifact_digest: str = "",
    test_fingerprint: str = "",
    threshold: float | None = None,
    chosen_on: Literal["recipe", "validation"] = "recipe",
    seconds: float | None = None,
) -> EvaluationReport:
    """Score every example; `DataError` when predictions and examples do not belong together.

    Answers less confident than `threshold` count as `out_of_scope()`; None: the recipe's own,
    where it names a number. `seconds` is how long all the answers took together.
    """
    by_id = match_predictions(examples, predictions)
    if threshold is None:
        threshold = config.abstain_below if isinstance(config.abstain_below, float) else 0.0
    tally = _Tally(config, threshold, known_intents)
    for example in examples:
        tally.add(example, by_id.get(example.id))
    rows = tally.rows
    groups = _name_groups(examples, config.group_by)
    codes = number_groups(groups, len(rows))
    rates = Rates(
        _flags(r.intents_right for r in rows),
        _flags(r.parameters_right for r in rows),
        _flags(r.exact for r in rows),
        codes,
    )
    outcomes = _outcomes(examples, rows, rates, groups)
    right = rates.intents_right
    return EvaluationReport(
        artifact_digest=artifact_digest,
        test_fingerprint=test_fingerprint,
        num_examples=len(rows),
        intent_accuracy=measure(rates.intents_right, codes),
        parameter_accuracy=measure(rates.parameters_right, codes),
        exact_match=measure(rates.exact, codes),
        parse_rate=measure(_flags(r.parsed for r in rows), codes),
        slots=_score_slots(outcomes),
        unknown_intent_rate=None
        if known_intents is None
        else measure(_flags(r.unknown for r in rows), codes),
        out_of_scope_recall=measure_some(right, _flags(r.out_of_scope for r in rows), codes),
        out_of_scope_precision=measure_some(
            right, _flags(r.answered_out_of_scope for r in rows), codes
        ),
        documents=DocumentsScore(
            intent_accuracy=sum(r.documents[0] for r in rows) / len(rows),
            parameter_accuracy=sum(r.documents[1] for r in rows) / len(rows),
        ),
        per_intent=score_intents((r.intents for r in rows), rates),
        slices=score_slices(examples, ((len(r.intents), r.has_slots) for r in rows), rates),
        confusion=_confusion(tally.pairs),
        failures=tuple(tally.failures),
        outcomes=outcomes,
        latency=_measure_latency(predictions, seconds),
        abstention=Abstention(
            threshold=threshold,
            num_abstained=sum(r.abstained for r in rows),
            chosen_on=chosen_on,
        )
        if threshold > 0
        else None,
        risk_coverage=_draw_risk(rows),
    )


class _Tally:
    """Scores example after example and keeps what the report needs."""

    def __init__(
        self, config: EvaluateConfig, threshold: float, known_intents: Collection[str] | None
    ) -> None:
        self._config = config
        self._threshold = threshold
        # An answer that was given up is no invention of the model's.
        given_up = {OUT_OF_SCOPE} if threshold > 0 else set[str]()
        self._known = frozenset(known_intents or ()) | given_up
        self.rows: list[_Row] = []
        self.pairs: Counter[Pair] = Counter()
        self.failures: list[Failure] = []

    def add(self, example: Example, prediction: Prediction | None) -> None:
        scored = score_answer(example, prediction, self._config)
        raw = prediction.text if prediction else ""
        documents = documents_score(example.output, raw) if prediction else (0, 0)
        right_unabstained = scored.comparison.exact
        abstained = prediction is not None and is_below(prediction, self._threshold)
        if prediction is not None and abstained:
            scored = score_answer(example, abstain(prediction), self._config)
        gold, answer, compared = scored
        self.rows.append(
            _Row(
                intents=tuple(call.intent for call in gold),
                has_slots=any(call.arguments for call in gold),
                intents_right=compared.intents_right,
                parameters_right=compared.parameters_right,
                exact=compared.exact,
                slot_hits=compared.slot_hits,
                slots_expected=compared.slots_expected,
                slots_found=compared.slots_found,
                parsed=answer is not None,
                unknown=any(call.intent not in self._known for call in answer or ()),
                out_of_scope=is_out_of_scope(gold),
                answered_out_of_scope=answer is not None and is_out_of_scope(answer),
                abstained=abstained,
                right_unabstained=right_unabstained,
                confidence=prediction.confidence if prediction else None,
                documents=documents,
            )
        )
        self.pairs.update(compared.pairs)
        if compared.reason is not None:
            answered = f"{OUT_OF_SCOPE}()" if abstained else raw
            self.failures.append(_failure(example, answered, compared.reason))


def _failure(example: Example, answered: str, reason: Reason) -> Failure:
    return Failure(
        example_id=example.id,
        instruction=example.instruction,
        expected=example.output,
        predicted=answered,
        reason=reason,
    )


def _flags(outcomes: Iterable[bool]) -> Flags:
    return np.fromiter(outcomes, dtype=np.bool_)


def _name_groups(examples: Sequence[Example], tag: str | None) -> tuple[str, ...]:
    """Each example's source by name; nothing where no two share one."""
    if tag is None:
        return ()
    names = tuple(f"{tag}={e.tags[tag]}" if tag in e.tags else f"#{e.id}" for e in examples)
    return names if len(set(names)) < len(names) else ()


def _outcomes(
    examples: Sequence[Example], rows: Sequence[_Row], rates: Rates, groups: tuple[str, ...]
) -> Outcomes:
    return Outcomes(
        ids=tuple(e.id for e in examples),
        intents_right=_digits(rates.intents_right),
        parameters_right=_digits(rates.parameters_right),
        exact=_digits(rates.exact),
        slot_hits=tuple(r.slot_hits for r in rows),
        slots_expected=tuple(r.slots_expected for r in rows),
        slots_found=tuple(r.slots_found for r in rows),
        confidence=tuple(r.confidence for r in rows),
        groups=groups,
    )


def _digits(flags: Flags) -> str:
    return (flags + np.uint8(ord("0"))).astype(np.uint8).tobytes().decode("ascii")


def _score_slots(outcomes: Outcomes) -> SlotScore:
    """With no slot expected and none found, nothing is wrong; with one of them none is right."""
    columns = outcomes.slot_hits, outcomes.slots_expected, outcomes.slots_found
    hits, expected, found = map(sum, columns)
    low, high = f1_interval(*columns, outcomes.groups)
    nothing = 0.0 if expected + found else 1.0
    return SlotScore(
        precision=hits / found if found else nothing,
        recall=hits / expected if expected else nothing,
        f1=2 * hits / (expected + found) if expected + found else nothing,
        low=low,
        high=high,
    )


def _confusion(pairs: Counter[Pair]) -> tuple[ConfusionCell, ...]:
    """The most frequent first, right ones among them."""
    ranked = sorted(pairs.items(), key=lambda p: (-p[1], p[0][0] or "", p[0][1] or ""))
    return tuple(
        ConfusionCell(expected=expected, predicted=predicted, count=count)
        for (expected, predicted), count in ranked
    )


def _measure_latency(predictions: Sequence[Prediction], seconds: float | None) -> Latency | None:
    taken = sorted(p.latency_ms for p in predictions if p.latency_ms is not None)
    first = sorted(p.first_token_ms for p in predictions if p.first_token_ms is not None)
    if not taken:
        return None
    answered = sum(not p.is_absent for p in predictions)
    return Latency(
        p50_ms=_percentile(taken, 50),
        p95_ms=_percentile(taken, 95),
        p99_ms=_percentile(taken, 99),
        first_token_p50_ms=_percentile(first, 50) if first else None,
        first_token_p95_ms=_percentile(first, 95) if first else None,
        utterances_per_second=answered / seconds if seconds else None,
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank: a latency that some request really had."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def _draw_risk(rows: Sequence[_Row]) -> tuple[RiskPoint, ...]:
    known = [(r.confidence, r.right_unabstained) for r in rows if r.confidence is not None]
    return risk_coverage([confidence for confidence, _ in known], [right for _, right in known])
