"""The gate: may this candidate take traffic? A no is a value, not an error."""

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
) -> GateDecision:
    """Hold the candidate against the recipe's rules, the champion and what the data check found.

    The candidate passes when every check does; `config.mode` says what follows from that.
    `hours_behind` is how much earlier the candidate's run was created than the champion's.
    """
    comparison = compare_reports(candidate, champion) if champion else None
    evidence = Evidence(config, candidate, champion, comparison, findings, hours_behind)
    results = tuple(result for check in CHECKS for result in check(evidence))
    passed = all(result.passed for result in results)
    return GateDecision(
        promote=is_accepted(passed, config.mode),
        passed=passed,
        mode=config.mode,
        checks=results,
        reason=explain(results, config.mode),
        candidate_digest=candidate.artifact_digest,
        champion_digest=champion.artifact_digest if champion else None,
        test_fingerprint=candidate.test_fingerprint,
        comparison=comparison,
    )


def approve(decision: GateDecision, approval: Approval) -> GateDecision:
    """The decision with a person's answer: a yes promotes what passed, and overrules no check."""
    if decision.mode != "manual":
        raise DataError(
            f"the gate decided on {decision.candidate_digest!r} in mode {decision.mode!r}: only "
            f"gate.mode manual asks for an approval"
        )
    answered = {
        "approval": approval,
        "promote": is_accepted(decision.passed, decision.mode, approval),
        "reason": explain(decision.checks, decision.mode, approval),
    }
    return GateDecision.model_validate({**dict(decision), **answered})
