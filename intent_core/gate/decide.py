"""The gate: decides whether to promote a candidate. A rejection is a value, not an error."""

from collections.abc import Sequence

from intent_core.errors import DataError
from intent_core.evaluation.paired_comparison import compare_reports
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.checks import CHECKS, Evidence
from intent_core.gate.decision import Approval, GateDecision, is_accepted
from intent_core.gate.render import explain
from intent_core.quality.findings import Finding
from intent_core.recipe.config import GateConfig


def decide(
    candidate: EvaluationReport,
    champion: EvaluationReport | None,
    config: GateConfig,
    findings: Sequence[Finding] = (),
    hours_behind: float = 0.0,
    *,
    is_champion: bool = False,
) -> GateDecision:
    """Check the candidate against the recipe's thresholds, the champion and the data findings.

    The candidate passes if every check passes; `config.mode` determines whether it is promoted.

    Args:
        candidate: evaluation report of the candidate.
        champion: report of the served model on the same test split; None if there is none, or if
            it is the candidate itself.
        config: thresholds and mode of the gate.
        findings: findings of the data check.
        hours_behind: hours by which the candidate's run is older than the champion's; 0 or less
            if it is newer.
        is_champion: whether the candidate is the served model itself.

    Raises:
        DataError: the two reports were made on different test splits or examples.
        ConfigError: `config` sets a minimum for an unknown metric.
    """
    comparison = compare_reports(candidate, champion) if champion else None
    evidence = Evidence(config, candidate, champion, comparison, findings, hours_behind)
    results = tuple(result for check in CHECKS for result in check(evidence))
    passed = all(result.passed for result in results)
    served = candidate if is_champion else champion
    return GateDecision(
        promote=is_accepted(passed, config.mode),
        passed=passed,
        mode=config.mode,
        checks=results,
        reason=explain(results, config.mode),
        candidate_digest=candidate.artifact_digest,
        champion_digest=served.artifact_digest if served else None,
        test_fingerprint=candidate.test_fingerprint,
        comparison=comparison,
    )


def approve(decision: GateDecision, approval: Approval) -> GateDecision:
    """Return the decision with the answer of the manual approval.

    An approval promotes a candidate that passed; it does not override failed checks.

    Args:
        decision: the gate's decision, in mode `manual`.
        approval: the answer; a declined approval rejects the candidate.

    Raises:
        DataError: the decision was not made in mode `manual`.
    """
    if decision.mode != "manual":
        raise DataError(
            f"cannot record an approval for {decision.candidate_digest!r}: gate.mode is "
            f"{decision.mode!r}, expected 'manual'"
        )
    answered = {
        "approval": approval,
        "promote": is_accepted(decision.passed, decision.mode, approval),
        "reason": explain(decision.checks, decision.mode, approval),
    }
    return GateDecision.model_validate({**dict(decision), **answered})
