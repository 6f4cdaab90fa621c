"""The gate: may this candidate take traffic? A no is a value, not an error.

Every rule of the recipe becomes a `Check`, and the candidate passes when all of them do. Whether
what passes is promoted at once, or when a person approves, or not at all, is the mode's business.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import scipy

from intent_core.errors import CallSyntaxError
from intent_core.evaluation.abstention import OUT_OF_SCOPE, is_out_of_scope
from intent_core.evaluation.paired_comparison import PairedRate, compare_reports, list_broken
from intent_core.evaluation.report import EvaluationReport, IntentScore, Measure, pick
from intent_core.evaluation.statistics import holm
from intent_core.gate.decision import (
    TOLERANCE,
    Approval,
    Bound,
    Check,
    GateDecision,
    approve,
    explain,
    find_margin,
    format_number,
    is_enough,
    is_promoted,
    render_decision,
)
from intent_core.language.calls import Call, parse_calls
from intent_core.quality.findings import Finding
from intent_core.recipe.choices import Rule
from intent_core.recipe.config import GateConfig

__all__ = ["Approval", "Check", "GateDecision", "approve", "decide", "render_decision"]

SIGNIFICANT = 0.05
MOST_UTTERANCES = 20
MOST_INTENTS = 5
NO_NUMBER = "not a number"
UNDEFINED = {
    "out_of_scope_recall": "no utterance of the test is out of scope",
    "out_of_scope_precision": f"no answer was {OUT_OF_SCOPE}()",
}
"""Why a metric has no value."""


class _Number(NamedTuple):
    value: float
    low: float
    high: float


UNKNOWN = _Number(math.nan, math.nan, math.nan)


def decide(
    candidate: EvaluationReport,
    champion: EvaluationReport | None,
    config: GateConfig,
    findings: Sequence[Finding] = (),
    hours_behind: float = 0.0,
) -> GateDecision:
    """Hold the candidate against the recipe's rules, the champion and what the data check found.

    `hours_behind` is how much earlier the candidate's run was asked for than the champion's.
    """
    comparison = compare_reports(candidate, champion) if champion else None
    checks = [*_minimum_checks(candidate, config)]
    if champion and comparison:
        for rate in (comparison.intent_accuracy, comparison.parameter_accuracy):
            broken = list_broken(candidate, champion, rate.name)
            checks.append(_regression_check(rate, broken, config))
    if config.min_per_intent is not None:
        checks.append(_intent_check(candidate, config.min_per_intent, config))
    checks += _slice_checks(candidate, config)
    if config.max_latency_p95_ms is not None:
        checks.append(_latency_check(candidate, config.max_latency_p95_ms))
    checks += [_finding_check(rule, findings) for rule in dict.fromkeys(config.blocking_findings)]
    if hours_behind > 0:
        checks.append(_order_check(hours_behind))
    passed = all(check.passed for check in checks)
    return GateDecision(
        promote=is_promoted(passed, config.mode),
        passed=passed,
        mode=config.mode,
        checks=tuple(checks),
        reason=explain(checks, config.mode),
        candidate_digest=candidate.artifact_digest,
        champion_digest=champion.artifact_digest if champion else None,
        test_fingerprint=candidate.test_fingerprint,
        comparison=comparison,
    )


def _minimum_checks(report: EvaluationReport, config: GateConfig) -> Iterator[Check]:
    minimums = (
        ("intent_accuracy", config.min_intent_accuracy),
        ("parameter_accuracy", config.min_parameter_accuracy),
        *config.minimums.items(),
    )
    for metric, minimum in minimums:
        number = _measured(report, metric)
        yield _check(
            f"min_{metric}",
            number or UNKNOWN,
            minimum,
            compared=number.low if number and config.compare == "lower_bound" else None,
            unknown=UNDEFINED.get(metric, NO_NUMBER) if number is None else NO_NUMBER,
            culprits=_culprits(report, metric),
        )
    count = report.num_examples
    yield _check("min_test_examples", _exactly(count), config.min_test_examples)


def _regression_check(rate: PairedRate, broken: Sequence[str], config: GateConfig) -> Check:
    # A rate that is not a number has no difference, whatever the outcomes say.
    known = math.isfinite(rate.candidate) and math.isfinite(rate.champion)
    number = _Number(rate.difference, rate.low, rate.high) if known else UNKNOWN
    # Where nothing broke there is no regression to be unsure of.
    careful = config.compare == "lower_bound" and rate.broken > 0
    return _check(
        f"{rate.name}_regression",
        number,
        0.0 - config.max_regression,
        compared=number.low if careful else None,
        remark=f", {rate.fixed} fixed and {rate.broken} broken",
        culprits=broken,
    )


def _intent_check(report: EvaluationReport, floor: float, config: GateConfig) -> Check:
    """Rejects for an intent below the floor only where chance does not explain it."""
    enough = config.min_per_intent_support
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
    level = f"{len(below)} of {len(tested)} intents below {format_number(floor)} beyond chance"
    message = f"{level}: {', '.join(named)}" if below else level
    return _check(
        "min_per_intent",
        _exactly(len(below)),
        0,
        bound="max",
        message=message if tested else f"no intent has {enough} test utterances",
        culprits=[
            failure.example_id
            for failure in report.failures
            if any(call.intent in intents for call in _calls(failure.expected))
        ],
    )


def _chance(score: IntentScore, floor: float) -> float:
    """How likely so few are right where the true rate is the floor."""
    rate = score.exact_match
    return float(
        scipy.stats.binomtest(rate.successes, rate.total, floor, alternative="less").pvalue
    )


def _slice_checks(report: EvaluationReport, config: GateConfig) -> Iterator[Check]:
    measured = {f"{score.name}={score.value}": score.exact_match for score in report.slices}
    for name, minimum in config.min_per_slice.items():
        number = _number(measured.get(name))
        yield _check(
            f"slice:{name}",
            number or UNKNOWN,
            minimum,
            compared=number.low if number and config.compare == "lower_bound" else None,
            unknown="the test has no such utterance" if number is None else NO_NUMBER,
        )


def _latency_check(report: EvaluationReport, maximum: float) -> Check:
    number = _exactly(report.latency.p95_ms) if report.latency else UNKNOWN
    unknown = NO_NUMBER if report.latency else "no latency was measured"
    return _check("max_latency_p95_ms", number, maximum, bound="max", unknown=unknown)


def _finding_check(rule: Rule, findings: Iterable[Finding]) -> Check:
    broken = [f.message for f in findings if f.rule == rule and f.is_broken]
    message = "; ".join(broken) or "the rule is kept"
    return _check(f"data:{rule}", _exactly(len(broken)), 0, bound="max", message=message)


def _order_check(hours_behind: float) -> Check:
    """A run that ended late, or was started again, takes no traffic from a newer one's model."""
    message = "hours before the run whose model is served; to serve this one all the same, run anew"
    return _check("newest_run", _exactly(hours_behind), 0, bound="max", message=message)


def _check(
    name: str,
    number: _Number,
    threshold: float,
    *,
    bound: Bound = "min",
    compared: float | None = None,
    message: str | None = None,
    remark: str = "",
    unknown: str = NO_NUMBER,
    culprits: Iterable[str] = (),
) -> Check:
    """`message` is given, or the margin with a `remark`, or why the number is `unknown`."""
    margin = find_margin(number.value if compared is None else compared, threshold, bound)
    passed = is_enough(number.value, margin)
    if not (math.isfinite(number.value) and math.isfinite(margin)):
        message = unknown
    elif message is None:
        message = f"{_distance(margin, bound)}{remark}"
        if compared is not None and compared != number.value:
            message = f"lower bound {format_number(compared)} {message}"
    return Check(
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


def _measured(report: EvaluationReport, metric: str) -> _Number | None:
    if metric == "slot_f1":
        return _Number(report.slots.f1, report.slots.low, report.slots.high)
    return _number(getattr(report, metric))


def _number(measure: Measure | None) -> _Number | None:
    if measure is None or measure.total == 0:
        return None
    return _Number(measure.value, measure.low, measure.high)


def _exactly(value: float) -> _Number:
    return _Number(float(value), float(value), float(value))


def _culprits(report: EvaluationReport, metric: str) -> tuple[str, ...]:
    """The examples a metric lost on, as far as the report tells."""
    outcomes, failures = report.outcomes, report.failures
    match metric:
        case "intent_accuracy":
            return _wrong(outcomes.ids, outcomes.intents_right)
        case "parameter_accuracy" | "slot_f1":
            return _wrong(outcomes.ids, outcomes.parameters_right)
        case "parse_rate":
            unread = ("malformed", "missing_prediction")
            return tuple(f.example_id for f in failures if f.reason in unread)
        case "out_of_scope_recall":
            scope = {f.example_id for f in failures if is_out_of_scope(_calls(f.expected))}
            return tuple(i for i in _culprits(report, "intent_accuracy") if i in scope)
        case "out_of_scope_precision":
            scope = {f.example_id for f in failures if is_out_of_scope(_calls(f.predicted))}
            return tuple(i for i in _culprits(report, "intent_accuracy") if i in scope)
    return _wrong(outcomes.ids, outcomes.exact)


def _wrong(ids: Sequence[str], flags: str) -> tuple[str, ...]:
    right = set(pick(ids, flags))
    return tuple(i for i in ids if i not in right)


def _calls(text: str) -> tuple[Call, ...]:
    try:
        return parse_calls(text)
    except CallSyntaxError:
        return ()
