"""The gate: may this candidate take traffic? A no is a value, not an error."""

import math

from pydantic import BaseModel, ConfigDict

from intent_core.config import GateConfig
from intent_core.errors import DataError
from intent_core.evaluation import EvaluationReport, Measure

# 0.53 - 0.05 is more than 0.48 in the last bit, and must not reject 0.48.
TOLERANCE = 1e-9


class Check(BaseModel):
    """One rule of the gate, applied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    low: float
    high: float
    threshold: float
    passed: bool
    message: str


class GateDecision(BaseModel):
    """Whether to promote, and why, in numbers and in one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promote: bool
    checks: tuple[Check, ...]
    reason: str
    candidate_digest: str
    champion_digest: str | None
    test_fingerprint: str


def decide(
    candidate: EvaluationReport, champion: EvaluationReport | None, config: GateConfig
) -> GateDecision:
    """Hold the candidate against the recipe's minimums and against the champion."""
    checks = _minimum_checks(candidate, config)
    if champion is not None:
        checks += _regression_checks(candidate, champion, config)
    failed = [check for check in checks if not check.passed]
    return GateDecision(
        promote=not failed,
        checks=tuple(checks),
        reason=_reason(checks, failed),
        candidate_digest=candidate.artifact_digest,
        champion_digest=champion.artifact_digest if champion else None,
        test_fingerprint=candidate.test_fingerprint,
    )


def render_decision(decision: GateDecision) -> str:
    """The decision as markdown: the verdict, the sentence, and a row per check."""
    rows = [
        f"| {c.name} | {_number(c.value)} | {_number(c.low)} to {_number(c.high)} "
        f"| {_number(c.threshold)} | {'pass' if c.passed else 'FAIL'}: {c.message} |"
        for c in decision.checks
    ]
    return "\n".join(
        [
            f"**{'Promote' if decision.promote else 'Reject'}** "
            f"{_named(decision.candidate_digest)} (champion {_named(decision.champion_digest)}, "
            f"test set {_named(decision.test_fingerprint)})",
            "",
            decision.reason,
            "",
            "| check | value | 95 % interval | threshold | verdict |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _minimum_checks(candidate: EvaluationReport, config: GateConfig) -> list[Check]:
    count = float(candidate.num_examples)
    minimums = (
        ("min_intent_accuracy", candidate.intent_accuracy, config.min_intent_accuracy),
        ("min_parameter_accuracy", candidate.parameter_accuracy, config.min_parameter_accuracy),
    )
    return [
        *(
            _check(name, rate, minimum, rate.low if config.compare == "lower_bound" else rate.value)
            for name, rate, minimum in minimums
        ),
        _check(
            "min_test_examples",
            Measure(
                value=count,
                low=count,
                high=count,
                successes=candidate.num_examples,
                total=candidate.num_examples,
            ),
            float(config.min_test_examples),
            count,
        ),
    ]


def _regression_checks(
    candidate: EvaluationReport, champion: EvaluationReport, config: GateConfig
) -> list[Check]:
    if candidate.test_fingerprint != champion.test_fingerprint:
        raise DataError(
            f"candidate {_named(candidate.artifact_digest)} was scored on test split "
            f"{candidate.test_fingerprint!r}, champion {_named(champion.artifact_digest)} on "
            f"{champion.test_fingerprint!r}: the champion must be scored again on the same test "
            f"split"
        )
    pairs = (
        ("intent_accuracy_regression", candidate.intent_accuracy, champion.intent_accuracy),
        (
            "parameter_accuracy_regression",
            candidate.parameter_accuracy,
            champion.parameter_accuracy,
        ),
    )
    return [
        _check(name, mine, theirs.value - config.max_regression, mine.value)
        for name, mine, theirs in pairs
    ]


def _check(name: str, measure: Measure, threshold: float, compared: float) -> Check:
    # Only an affirmative comparison of numbers passes: NaN must never promote.
    known = all(map(math.isfinite, (measure.value, compared, threshold)))
    passed = known and compared + TOLERANCE >= threshold
    message = _message(compared - threshold, passed) if known else "not a number"
    if known and compared != measure.value:
        message = f"lower bound {_number(compared)} {message}"
    return Check(
        name=name,
        value=measure.value,
        low=measure.low,
        high=measure.high,
        threshold=threshold,
        passed=passed,
        message=message,
    )


def _message(margin: float, passed: bool) -> str:
    if not passed:
        return f"short by {_number(-margin)}"
    return f"above by {_number(margin)}" if margin > TOLERANCE else "just met"


def _reason(checks: list[Check], failed: list[Check]) -> str:
    if not failed:
        return f"All {len(checks)} checks pass."
    listed = "; ".join(
        f"{c.name} {_number(c.value)} against {_number(c.threshold)}, {c.message}" for c in failed
    )
    return f"{len(failed)} of {len(checks)} checks failed: {listed}."


def _number(value: float) -> str:
    """Three decimals, a count without any, and never a small difference shown as nothing."""
    if math.isfinite(value) and value == round(value):
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) >= 0.0005 else f"{value:.1g}"


def _named(digest: str | None) -> str:
    return f"`{digest}`" if digest else "none"
