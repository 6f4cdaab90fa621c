"""Compares predictions with labelled examples and builds the report that the gate uses.

Every example counts: answers that do not parse, answers with an error and missing answers are
wrong, and none is dropped. The metrics are those of `metrics.METRICS`. The two metrics of the PAI
guide always compare the raw answer with `output`, without abstention or normalisation.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np

from intent_core.datasets.manifest import Example
from intent_core.evaluation.abstention import abstain, is_below, risk_coverage
from intent_core.evaluation.call_matching import Pair
from intent_core.evaluation.metrics import ScoredExample, ScoredExamples, compute_metrics
from intent_core.evaluation.prediction import Prediction, match_predictions
from intent_core.evaluation.report import (
    RATES,
    Abstention,
    ConfusionCell,
    DocumentsScore,
    EvaluationReport,
    Failure,
    FailureReason,
    Latency,
    NormalisedAnswer,
    Outcomes,
    RiskPoint,
)
from intent_core.evaluation.scoring import documents_score, score_answer
from intent_core.evaluation.slices import Flags, score_intents, score_slices
from intent_core.language.calls import OUT_OF_SCOPE
from intent_core.recipe.choices import Normalisation
from intent_core.recipe.config import EvaluateConfig


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
    """Score every example and return the evaluation report.

    Args:
        examples: labelled examples of the test split.
        predictions: at most one per example; an example without a prediction counts as wrong.
        config: how answers are compared with labels.
        known_intents: intents seen in training; None leaves out `unknown_intent_rate`.
        artifact_digest: digest of the evaluated model.
        test_fingerprint: fingerprint of the test split.
        threshold: confidence (0 to 1) below which an answer counts as `out_of_scope()`; None uses
            `config.abstain_below` if that is a number, else 0.
        chosen_on: where the threshold comes from.
        seconds: wall time of all requests together, for the throughput; None leaves it out.

    Raises:
        DataError: `examples` is empty, or ids are repeated, or a prediction has an unknown id, or
            a label does not parse.
    """
    by_id = match_predictions(examples, predictions)
    if threshold is None:
        threshold = config.abstain_below if isinstance(config.abstain_below, float) else 0.0
    # An answer replaced by abstention must not count as an unknown intent of the model.
    given_up = {OUT_OF_SCOPE} if threshold > 0 else set[str]()
    scorer = _Scorer(config, threshold)
    for example in examples:
        scorer.add(example, by_id.get(example.id))
    rows = scorer.rows
    known = None if known_intents is None else frozenset(known_intents) | given_up
    scored = ScoredExamples(rows, _name_groups(examples, config.group_by), known)
    metrics = compute_metrics(scored)
    fields: dict[str, Any] = {name: metrics.get(name) for name in RATES}
    return EvaluationReport(
        **fields,
        metrics=metrics,
        artifact_digest=artifact_digest,
        test_fingerprint=test_fingerprint,
        num_examples=len(rows),
        slots=scored.slots,
        documents=DocumentsScore(
            intent_accuracy=sum(r.documents[0] for r in rows) / len(rows),
            parameter_accuracy=sum(r.documents[1] for r in rows) / len(rows),
        ),
        per_intent=score_intents(([call.intent for call in r.gold] for r in rows), scored.rates),
        slices=score_slices(
            examples,
            ((len(r.gold), any(call.arguments for call in r.gold)) for r in rows),
            scored.rates,
        ),
        confusion=_confusion(scorer.pairs),
        failures=tuple(scorer.failures),
        normalised=tuple(scorer.normalised),
        outcomes=_outcomes(examples, scored),
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


class _Scorer:
    """Scores examples one by one and collects the data for the report."""

    def __init__(self, config: EvaluateConfig, threshold: float) -> None:
        self._config = config
        self._threshold = threshold
        self.rows: list[ScoredExample] = []
        self.pairs: Counter[Pair] = Counter()
        self.failures: list[Failure] = []
        self.normalised: list[NormalisedAnswer] = []

    def add(self, example: Example, prediction: Prediction | None) -> None:
        scored = score_answer(example, prediction, self._config)
        raw = prediction.text if prediction else ""
        documents = documents_score(example.output, raw) if prediction else (0, 0)
        right_unabstained = scored.comparison.exact
        abstained = prediction is not None and is_below(prediction, self._threshold)
        if prediction is not None and abstained:
            scored = score_answer(example, abstain(prediction), self._config)
        self.rows.append(
            ScoredExample(
                *scored,
                abstained=abstained,
                right_unabstained=right_unabstained,
                confidence=prediction.confidence if prediction else None,
                documents=documents,
            )
        )
        self.pairs.update(scored.comparison.pairs)
        answered = f"{OUT_OF_SCOPE}()" if abstained else raw
        if scored.comparison.reason is not None:
            self.failures.append(_failure(example, answered, scored.comparison.reason))
        if scored.kinds:
            self.normalised.append(_normalised(example, answered, scored.kinds))


def _failure(example: Example, answered: str, reason: FailureReason) -> Failure:
    return Failure(
        example_id=example.id,
        instruction=example.instruction,
        expected=example.output,
        predicted=answered,
        reason=reason,
    )


def _normalised(
    example: Example, answered: str, kinds: tuple[Normalisation, ...]
) -> NormalisedAnswer:
    return NormalisedAnswer(
        example_id=example.id,
        instruction=example.instruction,
        expected=example.output,
        predicted=answered,
        kinds=kinds,
    )


def _name_groups(examples: Sequence[Example], tag: str | None) -> tuple[str, ...]:
    """Return the name of each example's source, or () when no two examples share a source."""
    if tag is None:
        return ()
    names = tuple(f"{tag}={e.tags[tag]}" if tag in e.tags else f"#{e.id}" for e in examples)
    return names if len(set(names)) < len(names) else ()


def _outcomes(examples: Sequence[Example], scored: ScoredExamples) -> Outcomes:
    comparisons = [row.comparison for row in scored.rows]
    return Outcomes(
        ids=tuple(e.id for e in examples),
        intents_right=_digits(scored.rates.intents_right),
        parameters_right=_digits(scored.rates.parameters_right),
        exact=_digits(scored.rates.exact),
        slot_hits=tuple(c.slot_hits for c in comparisons),
        slots_expected=tuple(c.slots_expected for c in comparisons),
        slots_found=tuple(c.slots_found for c in comparisons),
        confidence=tuple(row.confidence for row in scored.rows),
        groups=scored.groups,
    )


def _digits(flags: Flags) -> str:
    return (flags + np.uint8(ord("0"))).astype(np.uint8).tobytes().decode("ascii")


def _confusion(pairs: Counter[Pair]) -> tuple[ConfusionCell, ...]:
    """Return all cells, correct ones included, the most frequent first."""
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
    """Return the nearest-rank percentile, which is always a measured value."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def _draw_risk(rows: Sequence[ScoredExample]) -> tuple[RiskPoint, ...]:
    known = [(r.confidence, r.right_unabstained) for r in rows if r.confidence is not None]
    return risk_coverage([confidence for confidence, _ in known], [right for _, right in known])
