"""The checks of the gate, one per threshold or rule of the recipe; `CHECKS` lists them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import scipy

from intent_core.evaluation.metrics import METRICS, NO_NUMBER, read_calls, require_metrics
from intent_core.evaluation.paired_comparison import PairedComparison, list_broken
from intent_core.evaluation.report import Estimate, EvaluationReport, IntentScore, Measure
from intent_core.evaluation.statistics import holm
from intent_core.gate.decision import TOLERANCE, Bound, CheckResult, find_margin, is_enough
from intent_core.gate.render import format_number
from intent_core.quality.findings import Finding
from intent_core.recipe.config import GateConfig

SIGNIFICANT = 0.05
MOST_UTTERANCES = 20
MOST_INTENTS = 5
UNKNOWN = Estimate(value=math.nan, low=math.nan, high=math.nan)


@dataclass(frozen=True)
class Evidence:
    """The input of the checks."""

    config: GateConfig
    candidate: EvaluationReport
    champion: EvaluationReport | None
    comparison: PairedComparison | None
    """Comparison of the two reports; None without a champion."""
    findings: Sequence[Finding]
    """Findings of the data check."""
    hours_behind: float
    """Hours by which the candidate's run is older than the champion's."""


def check_minimums(evidence: Evidence) -> Iterator[CheckResult]:
    """Every metric reaches its minimum."""
    report, config = evidence.candidate, evidence.config
    require_metrics(config.required)
    for name, minimum in config.required.items():
        measured, metric = _unless_empty(report.metrics.get(name)), METRICS[name]
        yield _check(
            f"min_{name}",
            measured or UNKNOWN,
            minimum,
            compared=measured.low if measured and config.compare == "lower_bound" else None,
            unknown=NO_NUMBER if measured else metric.undefined,
            culprits=metric.culprits(report),
        )


def check_test_size(evidence: Evidence) -> Iterator[CheckResult]:
    """The test split is large enough."""
    count = _exactly(evidence.candidate.num_examples)
    yield _check("min_test_examples", count, evidence.config.min_test_examples)


def check_regressions(evidence: Evidence) -> Iterator[CheckResult]:
    """Intent and parameter accuracy do not fall too far below the champion's."""
    config, comparison = evidence.config, evidence.comparison
    if evidence.champion is None or comparison is None:
        return
    for rate in (comparison.intent_accuracy, comparison.parameter_accuracy):
        # The outcomes may give a difference even if a rate is NaN; it must not be used then.
        known = math.isfinite(rate.candidate) and math.isfinite(rate.champion)
        number = UNKNOWN
        if known:
            number = Estimate(value=rate.difference, low=rate.low, high=rate.high)
        # If the candidate broke nothing, there is no regression whose size could be uncertain.
        careful = config.compare == "lower_bound" and rate.broken > 0
        yield _check(
            f"{rate.name}_regression",
            number,
            0.0 - config.max_regression,
            compared=number.low if careful else None,
            remark=f", {rate.fixed} fixed and {rate.broken} broken",
            culprits=list_broken(evidence.candidate, evidence.champion, rate.name),
        )


def check_intents(evidence: Evidence) -> Iterator[CheckResult]:
    """No intent is significantly below the floor (binomial test with Holm's correction)."""
    report, config = evidence.candidate, evidence.config
    floor, enough = config.min_per_intent, config.min_per_intent_support
    if floor is None:
        return
    tested = [score for score in report.per_intent if score.exact_match.total >= enough]
    below = sorted(
        (p_value, score.exact_match.value, score.intent, score.exact_match.total)
        for score, p_value in zip(tested, holm([_chance(s, floor) for s in tested]), strict=True)
        if p_value < SIGNIFICANT
    )
    named = [
        f"{intent} {format_number(value)} of {total} (p {format_number(p_value)})"
        for p_value, value, intent, total in below[:MOST_INTENTS]
    ]
    if len(below) > MOST_INTENTS:
        named.append(f"{len(below) - MOST_INTENTS} more")
    intents = {intent for _, _, intent, _ in below}
    level = f"{len(below)} of {len(tested)} intents significantly below {format_number(floor)}"
    message = f"{level}: {', '.join(named)}" if below else level
    yield _check(
        "min_per_intent",
        _exactly(len(below)),
        0,
        bound="max",
        message=message if tested else f"no intent has {enough} or more test utterances",
        culprits=[
            failure.example_id
            for failure in report.failures
            if any(call.intent in intents for call in read_calls(failure.expected))
        ],
    )


def check_slices(evidence: Evidence) -> Iterator[CheckResult]:
    """Every slice in the recipe reaches its minimum."""
    measured = {f"{s.name}={s.value}": s.exact_match for s in evidence.candidate.slices}
    for name, minimum in evidence.config.min_per_slice.items():
        rate = _unless_empty(measured.get(name))
        yield _check(
            f"slice:{name}",
            rate or UNKNOWN,
            minimum,
            compared=rate.low if rate and evidence.config.compare == "lower_bound" else None,
            unknown=NO_NUMBER if rate else "the test split has no utterances in this slice",
        )


def check_latency(evidence: Evidence) -> Iterator[CheckResult]:
    """The p95 latency is within its maximum."""
    latency, maximum = evidence.candidate.latency, evidence.config.max_latency_p95_ms
    if maximum is not None:
        number = _exactly(latency.p95_ms) if latency else UNKNOWN
        unknown = NO_NUMBER if latency else "no latency was measured"
        yield _check("max_latency_p95_ms", number, maximum, bound="max", unknown=unknown)


def check_findings(evidence: Evidence) -> Iterator[CheckResult]:
    """The data check has no violations of the rules in `blocking_findings`."""
    for rule in dict.fromkeys(evidence.config.blocking_findings):
        broken = [f.message for f in evidence.findings if f.rule == rule and f.is_broken]
        message = "; ".join(broken) or "no violations"
        yield _check(f"data:{rule}", _exactly(len(broken)), 0, bound="max", message=message)


def check_order(evidence: Evidence) -> Iterator[CheckResult]:
    """The candidate's run is not older than the champion's.

    Otherwise a run that finished late or was restarted would replace a newer model.
    """
    if evidence.hours_behind > 0:
        hours = _exactly(evidence.hours_behind)
        message = (
            "hours older than the run that produced the served model; start a new run to promote "
            "it anyway"
        )
        yield _check("newest_run", hours, 0, bound="max", message=message)


CHECKS: tuple[Callable[[Evidence], Iterator[CheckResult]], ...] = (
    check_minimums,
    check_test_size,
    check_regressions,
    check_intents,
    check_slices,
    check_latency,
    check_findings,
    check_order,
)
"""In the order of the results. To add a check, write a function above and list it here."""


def _chance(score: IntentScore, floor: float) -> float:
    """Return the probability of so few or fewer right answers if the true rate is the floor."""
    rate = score.exact_match
    return float(
        scipy.stats.binomtest(rate.successes, rate.total, floor, alternative="less").pvalue
    )


def _check(
    name: str,
    number: Measure | Estimate,
    threshold: float,
    *,
    bound: Bound = "min",
    compared: float | None = None,
    message: str | None = None,
    remark: str = "",
    unknown: str = NO_NUMBER,
    culprits: Iterable[str] = (),
) -> CheckResult:
    """Compare a number with its threshold and return the result.

    The result's message is `unknown` if the number or margin is not finite, else `message`, else
    the margin followed by `remark`.
    """
    margin = find_margin(number.value if compared is None else compared, threshold, bound)
    passed = is_enough(number.value, margin)
    if not (math.isfinite(number.value) and math.isfinite(margin)):
        message = unknown
    elif message is None:
        message = f"{_distance(margin, bound)}{remark}"
        if compared is not None and compared != number.value:
            message = f"lower bound {format_number(compared)}, {message}"
    return CheckResult(
        name=name,
        value=number.value,
        low=number.low,
        high=number.high,
        threshold=threshold,
        passed=passed,
        message=message,
        bound=bound,
        compared=compared,
        utterances=() if passed else tuple(culprits)[:MOST_UTTERANCES],
    )


def _distance(margin: float, bound: Bound) -> str:
    if margin < -TOLERANCE:
        return f"{'short' if bound == 'min' else 'over'} by {format_number(-margin)}"
    if margin <= TOLERANCE:
        return "just met"
    return f"{'above' if bound == 'min' else 'under'} by {format_number(margin)}"


def _unless_empty(measured: Measure | Estimate | None) -> Measure | Estimate | None:
    """Return None for a rate over no utterances."""
    return None if measured is None or measured.total == 0 else measured


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)
