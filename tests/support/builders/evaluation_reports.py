"""Evaluation reports built from the outcome of each utterance, and helpers for gate decisions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from intent_core.evaluation.report import (
    DocumentsScore,
    EvaluationReport,
    Failure,
    FailureReason,
    IntentScore,
    Latency,
    Measure,
    Outcomes,
    SliceScore,
    SlotScore,
)
from intent_core.evaluation.statistics import clustered_interval
from intent_core.gate.decision import CheckResult, GateDecision
from intent_core.language.calls import parse_calls
from intent_core.recipe.config import GateConfig


class Scored(NamedTuple):
    """One utterance with its label, and which parts of the answer are right."""

    id: str
    intents: bool = True
    parameters: bool = True
    exact: bool = True
    expected: str = "weather(Hangzhou)"
    predicted: str = "music_exit()"
    reason: FailureReason = "wrong_intent"
    group: str = ""
    kind: str = ""


def right(example_id: str, expected: str = "weather(Hangzhou)", kind: str = "") -> Scored:
    return Scored(example_id, expected=expected, predicted=expected, kind=kind)


def wrong(example_id: str, expected: str = "weather(Hangzhou)", kind: str = "") -> Scored:
    return Scored(example_id, False, False, False, expected, kind=kind)


def by_level(levels: Sequence[int], groups: Sequence[str] = ()) -> list[Scored]:
    """Build rows by level: 0 wrong; 1 intent right; 2 parameters right, too; 3 order right, too."""
    return [
        Scored(f"e{i}", level > 0, level > 1, level > 2, group=groups[i] if groups else "")
        for i, level in enumerate(levels)
    ]


def measured(flags: Sequence[bool]) -> Measure:
    low, high = clustered_interval(flags)
    share = sum(flags) / len(flags) if flags else 0.0
    return Measure(value=share, low=low, high=high, successes=sum(flags), total=len(flags))


def report_of(
    rows: Sequence[Scored],
    *,
    digest: str = "candidate",
    test: str = "t1",
    latency_ms: float | None = None,
) -> EvaluationReport:
    """Build a report whose every part follows from the rows, with one slot per utterance."""
    exact = [row.exact for row in rows]
    hits = sum(row.parameters for row in rows)
    f1 = hits / len(rows) if rows else 1.0
    asked = [row.intents for row in rows if row.expected == "out_of_scope()"]
    answered = [row.intents for row in rows if row.predicted == "out_of_scope()"]
    intents = sorted({call.intent for row in rows for call in parse_calls(row.expected)})
    return EvaluationReport(
        artifact_digest=digest,
        test_fingerprint=test,
        num_examples=len(rows),
        intent_accuracy=measured([row.intents for row in rows]),
        parameter_accuracy=measured([row.parameters for row in rows]),
        exact_match=measured(exact),
        parse_rate=measured([row.exact or row.reason != "malformed" for row in rows]),
        slots=SlotScore(precision=f1, recall=f1, f1=f1, low=f1 / 2, high=1.0),
        unknown_intent_rate=None,
        out_of_scope_recall=measured(asked) if asked else None,
        out_of_scope_precision=measured(answered) if answered else None,
        documents=DocumentsScore(intent_accuracy=f1, parameter_accuracy=f1),
        per_intent=tuple(
            IntentScore(intent=intent, **_rates(rows, _has_intent(intent))) for intent in intents
        ),
        slices=tuple(
            SliceScore(name="channel", value=kind, **_rates(rows, _is_kind(kind)))
            for kind in sorted({row.kind for row in rows if row.kind})
        ),
        confusion=(),
        failures=tuple(
            Failure(
                example_id=row.id,
                instruction=f"utterance {row.id}",
                expected=row.expected,
                predicted=row.predicted,
                reason=row.reason,
            )
            for row in rows
            if not row.exact
        ),
        outcomes=Outcomes(
            ids=tuple(row.id for row in rows),
            intents_right=_digits([row.intents for row in rows]),
            parameters_right=_digits([row.parameters for row in rows]),
            exact=_digits(exact),
            slot_hits=tuple(int(row.parameters) for row in rows),
            slots_expected=(1,) * len(rows),
            slots_found=(1,) * len(rows),
            confidence=(None,) * len(rows),
            groups=tuple(row.group for row in rows) if any(row.group for row in rows) else (),
        ),
        latency=None
        if latency_ms is None
        else Latency(p50_ms=latency_ms / 2, p95_ms=latency_ms, p99_ms=latency_ms * 2),
        abstention=None,
        risk_coverage=(),
    )


def with_rates(report: EvaluationReport, **rates: Measure) -> EvaluationReport:
    """Return the report with these rates replaced, in its fields and in `metrics`."""
    return report.model_copy(update={**rates, "metrics": {**report.metrics, **rates}})


def _rates(rows: Sequence[Scored], belongs: Callable[[Scored], bool]) -> dict[str, Measure | int]:
    chosen = [row for row in rows if belongs(row)]
    return {
        "support": len(chosen),
        "intent_accuracy": measured([row.intents for row in chosen]),
        "parameter_accuracy": measured([row.parameters for row in chosen]),
        "exact_match": measured([row.exact for row in chosen]),
    }


def _has_intent(intent: str) -> Callable[[Scored], bool]:
    return lambda row: intent in {call.intent for call in parse_calls(row.expected)}


def _is_kind(kind: str) -> Callable[[Scored], bool]:
    return lambda row: row.kind == kind


def _digits(flags: Sequence[bool]) -> str:
    return "".join("1" if flag else "0" for flag in flags)


LENIENT = GateConfig(min_intent_accuracy=0, min_parameter_accuracy=0, min_test_examples=1)


def lenient(**settings: Any) -> GateConfig:
    return GateConfig.model_validate({**LENIENT.model_dump(), **settings})


def verdicts(decision: GateDecision) -> dict[str, bool]:
    return {check.name: check.passed for check in decision.checks}


def check_of(decision: GateDecision, name: str) -> CheckResult:
    return next(check for check in decision.checks if check.name == name)
