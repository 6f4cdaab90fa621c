"""Compares candidate and champion on the same utterances."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import ConfigDict

from intent_core.errors import DataError
from intent_core.evaluation.report import EvaluationReport, Outcomes, Value, select_ids
from intent_core.evaluation.statistics import (
    IntArray,
    SlotCounts,
    mcnemar_p_value,
    paired_difference_interval,
    paired_f1_difference,
    sign_flip_p_value,
    sum_by_group,
)

RateName = Literal["intent_accuracy", "parameter_accuracy", "exact_match"]


class PairedDifference(Value):
    """A metric of both models and the difference, candidate - champion, with its 95 % interval."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str
    candidate: float
    champion: float
    difference: float
    low: float
    high: float


class PairedRate(PairedDifference):
    """A rate, compared utterance by utterance.

    `fixed` counts the utterances that only the candidate gets right, `broken` those that only the
    champion gets right. `p_value` comes from McNemar's exact test, or from the sign-flip test over
    sources if utterances share a source.
    """

    name: RateName
    p_value: float
    fixed: int
    broken: int


class PairedComparison(Value):
    """Differences between two models on one test split; the ids are by exact match, in order."""

    intent_accuracy: PairedRate
    parameter_accuracy: PairedRate
    exact_match: PairedRate
    slot_f1: PairedDifference
    fixed_ids: tuple[str, ...]
    broken_ids: tuple[str, ...]


def compare_reports(candidate: EvaluationReport, champion: EvaluationReport) -> PairedComparison:
    """Compare two reports on the same test split.

    Args:
        candidate: report of the candidate.
        champion: report of the served model.

    Raises:
        DataError: the reports were made on different test splits or examples.
    """
    _require_same_test(candidate, champion)
    return PairedComparison(
        intent_accuracy=_compare_rate("intent_accuracy", candidate, champion),
        parameter_accuracy=_compare_rate("parameter_accuracy", candidate, champion),
        exact_match=_compare_rate("exact_match", candidate, champion),
        slot_f1=_compare_slots(candidate, champion),
        fixed_ids=list_fixed(candidate, champion, "exact_match"),
        broken_ids=list_broken(candidate, champion, "exact_match"),
    )


def list_fixed(
    candidate: EvaluationReport, champion: EvaluationReport, rate: RateName
) -> tuple[str, ...]:
    """Return the ids of the examples that only the candidate gets right, in its report's order."""
    already = set(_right_ids(champion, rate))
    return tuple(i for i in _right_ids(candidate, rate) if i not in already)


def list_broken(
    candidate: EvaluationReport, champion: EvaluationReport, rate: RateName
) -> tuple[str, ...]:
    """Return the ids of the examples that only the champion gets right.

    Args:
        candidate: report of the candidate; the ids are in the order of its test split.
        champion: report of the served model on the same test split.
        rate: the rate by which an example counts as right.
    """
    lost = set(_right_ids(champion, rate)).difference(_right_ids(candidate, rate))
    return tuple(i for i in candidate.outcomes.ids if i in lost)


def _require_same_test(candidate: EvaluationReport, champion: EvaluationReport) -> None:
    named = f"candidate `{candidate.artifact_digest}`", f"champion `{champion.artifact_digest}`"
    if candidate.test_fingerprint != champion.test_fingerprint:
        raise DataError(
            f"{named[0]} was scored on test split {candidate.test_fingerprint!r}, {named[1]} on "
            f"{champion.test_fingerprint!r}. Evaluate the champion again on the candidate's test "
            f"split"
        )
    mine, theirs = set(candidate.outcomes.ids), set(champion.outcomes.ids)
    if mine != theirs:
        raise DataError(
            f"{named[0]} and {named[1]} refer to the same test split "
            f"{candidate.test_fingerprint!r} but to different examples: {len(mine ^ theirs)} in "
            f"one report only, e.g. {min(mine ^ theirs)!r}. Evaluate both again"
        )


def _compare_rate(
    rate: RateName, candidate: EvaluationReport, champion: EvaluationReport
) -> PairedRate:
    mine, theirs = (_right(report, rate) for report in (candidate, champion))
    groups = _groups(candidate.outcomes)
    difference, low, high = paired_difference_interval(mine, theirs, groups)
    fixed, broken = int(np.sum(mine > theirs)), int(np.sum(mine < theirs))
    return PairedRate(
        name=rate,
        candidate=candidate.metrics[rate].value,
        champion=champion.metrics[rate].value,
        difference=difference,
        low=low,
        high=high,
        p_value=sign_flip_p_value(sum_by_group(mine - theirs, groups))
        if groups
        else mcnemar_p_value(fixed, broken),
        fixed=fixed,
        broken=broken,
    )


def _compare_slots(candidate: EvaluationReport, champion: EvaluationReport) -> PairedDifference:
    difference, low, high = paired_f1_difference(
        _slot_counts(candidate.outcomes),
        _slot_counts(champion.outcomes),
        _groups(candidate.outcomes),
    )
    return PairedDifference(
        name="slot_f1",
        candidate=candidate.slots.f1,
        champion=champion.slots.f1,
        difference=difference,
        low=low,
        high=high,
    )


def _flags(outcomes: Outcomes, rate: RateName) -> str:
    return {
        "intent_accuracy": outcomes.intents_right,
        "parameter_accuracy": outcomes.parameters_right,
        "exact_match": outcomes.exact,
    }[rate]


def _right_ids(report: EvaluationReport, rate: RateName) -> tuple[str, ...]:
    return select_ids(report.outcomes.ids, _flags(report.outcomes, rate))


def _right(report: EvaluationReport, rate: RateName) -> IntArray:
    flags = _flags(report.outcomes, rate)
    return np.array([flags[i] == "1" for i in _by_id(report.outcomes)], dtype=np.int64)


def _slot_counts(outcomes: Outcomes) -> SlotCounts:
    order = _by_id(outcomes)

    def aligned(counts: Sequence[int]) -> IntArray:
        return np.array([counts[i] for i in order], dtype=np.int64)

    return (
        aligned(outcomes.slot_hits),
        aligned(outcomes.slots_expected),
        aligned(outcomes.slots_found),
    )


def _groups(outcomes: Outcomes) -> tuple[str, ...]:
    return tuple(outcomes.groups[i] for i in _by_id(outcomes)) if outcomes.groups else ()


def _by_id(outcomes: Outcomes) -> list[int]:
    """Return the positions sorted by example id, so that both reports have the same order."""
    return sorted(range(len(outcomes.ids)), key=outcomes.ids.__getitem__)
