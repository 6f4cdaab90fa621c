"""The verdict in a few words, and a summary of the review in a few sentences."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intent_core.errors import CallSyntaxError
from intent_core.evaluation.paired_comparison import PairedComparison, PairedRate
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decision import GateDecision
from intent_core.language.calls import parse_calls
from intent_core.reporting.headline_metrics import SIGNIFICANT
from intent_core.reporting.number_format import p_value, percent, points, whole
from intent_core.reporting.review import Review
from intent_core.reporting.untrusted_text import shorten

_LONGEST_NAME = 60
_ENOUGH = 5
"""Minimum number of test utterances for an intent to be reported as the weakest."""


@dataclass(frozen=True)
class Verdict:
    """The outcome for the candidate; `tone` is `good`, `bad` or `waits`."""

    word: str
    tone: str


def name_verdict(decision: GateDecision) -> Verdict:
    """Return the verdict: promoted, rejected, declined, waiting for approval or dry run."""
    if decision.mode == "dry_run":
        return Verdict(
            "Dry run: would be promoted" if decision.passed else "Dry run: would be rejected",
            "waits" if decision.passed else "bad",
        )
    if decision.awaits_approval:
        return Verdict("Waiting for approval", "waits")
    if decision.promote:
        return Verdict("Promoted", "good")
    return Verdict("Declined" if decision.passed else "Rejected", "bad")


def summarise(review: Review) -> list[str]:
    """Return sentences on the changes against the champion, or on the scores without one."""
    comparison = review.decision.comparison
    return [
        *(_compared(review, comparison) if comparison else _alone(review)),
        *_weakest(review.report),
    ]


def intents_of(output: str) -> tuple[str, ...]:
    """Return the intents of a label or answer; () if it does not parse."""
    try:
        return tuple(dict.fromkeys(call.intent for call in parse_calls(output)))
    except CallSyntaxError:
        return ()


def _compared(review: Review, comparison: PairedComparison) -> Iterator[str]:
    rates = (
        ("intent accuracy", comparison.intent_accuracy),
        ("parameter accuracy", comparison.parameter_accuracy),
    )
    # Significant differences come first.
    for name, rate in sorted(rates, key=lambda pair: pair[1].p_value >= SIGNIFICANT):
        yield _differ(name, rate)
    outputs = list_outputs(review)
    fixed = _count_changed(comparison.fixed_ids, outputs, "fixed")
    broken = _count_changed(comparison.broken_ids, outputs, "broken")
    yield f"By exact match, {fixed}; {broken}."


def list_outputs(review: Review) -> dict[str, str]:
    """Return the labels of the fixed and broken examples by id."""
    comparison = review.decision.comparison
    if comparison is None:
        return {}
    wanted = {*comparison.fixed_ids, *comparison.broken_ids}
    reports = [review.report, review.champion] if review.champion else [review.report]
    outputs = {
        failure.example_id: failure.expected
        for report in reports
        for failure in report.failures
        if failure.example_id in wanted
    }
    return {
        **outputs,
        **{i: review.utterances[i].output for i in wanted if i in review.utterances},
    }


def _differ(name: str, rate: PairedRate) -> str:
    size = points(rate.difference).lstrip("+−")
    if not rate.fixed and not rate.broken:
        return f"No change in {name}: {percent(rate.candidate)}\u00a0%."
    if rate.p_value >= SIGNIFICANT:
        return (
            f"No significant difference in {name} ({points(rate.difference)} points, "
            f"p = {p_value(rate.p_value)})."
        )
    word = "Better" if rate.difference > 0 else "Worse"
    p = p_value(rate.p_value)
    return f"{word} by {size} points in {name} (p {p if p.startswith('<') else f'= {p}'})."


def _count_changed(ids: Sequence[str], outputs: dict[str, str], word: str) -> str:
    counted = f"{whole(len(ids))} {'utterance was' if len(ids) == 1 else 'utterances were'} {word}"
    counts = Counter(intent for i in ids if i in outputs for intent in intents_of(outputs[i]))
    if not counts:
        return counted
    intent, times = min(counts.items(), key=lambda item: (-item[1], item[0]))
    named = shorten(intent, _LONGEST_NAME)
    if len(ids) == 1:
        return f"{counted}, in {named}"
    share = "most of them" if 2 * times > len(ids) else "the largest group"
    return f"{counted}, {share} in {named} ({whole(times)})"


def _alone(review: Review) -> Iterator[str]:
    report = review.report
    alone = "There is no champion to compare with."
    if review.decision.is_champion:
        alone = "This is the champion: there is no other model to compare it with."
    intents, parameters = report.intent_accuracy, report.parameter_accuracy
    yield (
        f"{alone} Of {whole(report.num_examples)} utterances, "
        f"{percent(intents.value)}\u00a0% have the right intents ({percent(intents.low)} to "
        f"{percent(intents.high)}) and {percent(parameters.value)}\u00a0% also have the right "
        f"parameters ({percent(parameters.low)} to {percent(parameters.high)})."
    )
    wrong = report.exact_match.total - report.exact_match.successes
    reasons = Counter(failure.reason for failure in report.failures)
    if wrong and reasons:
        reason, times = min(reasons.items(), key=lambda item: (-item[1], item[0]))
        yield (
            f"{whole(wrong)} {'is' if wrong == 1 else 'are'} not an exact match; the most frequent "
            f"reason is {reason.replace('_', ' ')} ({whole(times)})."
        )


def _weakest(report: EvaluationReport) -> Iterator[str]:
    known = [score for score in report.per_intent if score.support >= _ENOUGH]
    if len(known) < 2:
        return
    weakest = min(known, key=lambda score: (score.exact_match.high, score.intent))
    if weakest.exact_match.value < 1:
        yield (
            f"The weakest intent is {shorten(weakest.intent, _LONGEST_NAME)}: "
            f"{percent(weakest.exact_match.value)}\u00a0% exact match on "
            f"{whole(weakest.support)} utterances."
        )
