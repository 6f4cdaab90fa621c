"""Renders the gate's decision as one sentence or as a markdown page."""

import math
from collections.abc import Iterator, Mapping, Sequence

from intent_core.evaluation.paired_comparison import PairedComparison, PairedDifference, PairedRate
from intent_core.evaluation.report import Failure
from intent_core.gate.decision import TOLERANCE, Approval, CheckResult, GateDecision, Mode
from intent_core.markdown import escape_markdown

LONGEST_TEXT = 200


def explain(checks: Sequence[CheckResult], mode: Mode, approval: Approval | None = None) -> str:
    """Return the decision as one sentence."""
    failed = [check for check in checks if not check.passed]
    listed = "; ".join(
        f"{c.name} is {format_number(c.value)} ({c.bound}imum {format_number(c.threshold)}): "
        f"{c.message}"
        for c in failed
    )
    verdict = (
        f"{len(failed)} of {len(checks)} checks failed: {listed}"
        if failed
        else f"All {len(checks)} checks passed"
    )
    follows = _follows(not failed, mode, approval)
    return f"{verdict}; {follows}." if follows else f"{verdict}."


def format_number(value: float) -> str:
    """Format a number with three decimals.

    Whole numbers have no decimals, numbers below 0.0005 have one significant digit instead of
    being rounded to 0, and NaN is "unknown".

    Args:
        value: any number, NaN included.
    """
    if math.isnan(value):
        return "unknown"
    if math.isfinite(value) and value == round(value):
        return f"{value + 0.0:.0f}"
    return f"{value:.3f}" if abs(value) >= 0.0005 else f"{value:.1g}"


def render_decision(decision: GateDecision, failures: Sequence[Failure] = ()) -> str:
    """Return the decision as markdown: verdict, reason, table of checks and paired comparison.

    Args:
        decision: the gate's decision.
        failures: failures in the candidate's report, from which the utterances that caused a
            failed check are shown.
    """
    by_id = {failure.example_id: failure for failure in failures}
    lines = [
        f"**{_verdict(decision)}** {_named(decision.candidate_digest)} ({_champion(decision)}, "
        f"test set {_named(decision.test_fingerprint)})",
        "",
        escape_markdown(decision.reason),
        "",
        *_table("check", "value", "95 % interval", "threshold", "margin", "verdict"),
        *(_row(*_check_cells(check)) for check in decision.checks),
        "",
    ]
    if decision.comparison:
        lines += _comparison_lines(decision.comparison)
    for check in decision.checks:
        if not check.passed and check.utterances:
            lines += _utterance_lines(check, by_id)
    return "\n".join(lines)


def _follows(passed: bool, mode: Mode, approval: Approval | None) -> str:
    if mode == "dry_run":
        return "dry run: nothing is promoted"
    if mode == "enforce":
        return ""
    if approval is None:
        return "waiting for approval" if passed else ""
    answer = f"{'approved' if approval.approved else 'declined'} by {approval.by}"
    if approval.approved and not passed:
        return f"{answer}, which does not override failed checks"
    return f"{answer}: {approval.note}" if approval.note else answer


def _verdict(decision: GateDecision) -> str:
    if decision.mode == "dry_run":
        return f"Dry run, would {'promote' if decision.passed else 'reject'}"
    if decision.awaits_approval:
        return "Waiting for approval"
    if decision.passed and not decision.promote:
        return "Declined"
    return "Promote" if decision.promote else "Reject"


def _champion(decision: GateDecision) -> str:
    if decision.is_champion:
        return "this is the champion"
    return f"champion {_named(decision.champion_digest)}"


def _check_cells(check: CheckResult) -> Iterator[str]:
    yield check.name
    yield format_number(check.value)
    yield _interval(check.low, check.high)
    yield _threshold(check)
    yield "unknown" if math.isnan(check.margin) else _signed(check.margin)
    yield f"{'pass' if check.passed else 'FAIL'}: {check.message}"


def _comparison_lines(comparison: PairedComparison) -> list[str]:
    compared = (
        comparison.intent_accuracy,
        comparison.parameter_accuracy,
        comparison.exact_match,
        comparison.slot_f1,
    )
    columns = "metric", "champion", "candidate", "difference", "95 % interval"
    return [
        "Against the champion, utterance by utterance:",
        "",
        *_table(*columns, "p", "fixed", "broken"),
        *(_row(*_difference_cells(difference)) for difference in compared),
        "",
    ]


def _difference_cells(paired: PairedDifference) -> Iterator[str]:
    yield paired.name
    yield format_number(paired.champion)
    yield format_number(paired.candidate)
    yield _signed(paired.difference)
    yield _interval(paired.low, paired.high)
    if isinstance(paired, PairedRate):
        yield from (format_number(paired.p_value), str(paired.fixed), str(paired.broken))
    else:
        yield from ("", "", "")


def _utterance_lines(check: CheckResult, by_id: Mapping[str, Failure]) -> list[str]:
    return [
        f"Utterances that caused {escape_markdown(check.name)} to fail:",
        "",
        *_table("id", "utterance", "expected", "answer"),
        *(_row(*_utterance_cells(i, by_id.get(i))) for i in check.utterances),
        "",
    ]


def _utterance_cells(example_id: str, failure: Failure | None) -> tuple[str, ...]:
    if failure is None:
        return example_id, "", "", ""
    return example_id, *map(_clip, (failure.instruction, failure.expected, failure.predicted))


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _table(*columns: str) -> tuple[str, str]:
    return _row(*columns), "|" + "---|" * len(columns)


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _threshold(check: CheckResult) -> str:
    return f"{'at most ' if check.bound == 'max' else ''}{format_number(check.threshold)}"


def _interval(low: float, high: float) -> str:
    unknown = math.isnan(low) or math.isnan(high)
    return "unknown" if unknown else f"{format_number(low)} to {format_number(high)}"


def _signed(value: float) -> str:
    if abs(value) <= TOLERANCE:
        return "0"
    return f"{'+' if value > 0 else ''}{format_number(value)}"


def _named(digest: str | None) -> str:
    return f"`{' '.join(digest.replace('`', '').split())}`" if digest else "none"
