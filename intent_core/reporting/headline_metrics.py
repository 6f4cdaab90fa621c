"""The numbers a reviewer looks at first: the candidate's beside the champion's."""

from dataclasses import dataclass

from intent_core.evaluation.paired_comparison import PairedDifference, PairedRate
from intent_core.evaluation.report import EvaluationReport, Measure, SlotScore
from intent_core.reporting.review import Review

_RATES = (
    ("intent_accuracy", "Intent accuracy", "the intents are right, in any order"),
    ("parameter_accuracy", "Parameter accuracy", "and so are all values"),
    ("exact_match", "Exact match", "and so is the order of the calls"),
    ("slot_f1", "Slot F1", "values found, and found values right"),
    ("parse_rate", "Parse rate", "the answer is a list of calls at all"),
    ("out_of_scope_recall", "Out-of-scope recall", "of these utterances, so answered"),
    ("out_of_scope_precision", "Out-of-scope precision", "of these answers, rightly so"),
    ("unknown_intent_rate", "Unknown intents", "an intent never trained; less is better"),
)
_USUAL = ("intent_accuracy", "parameter_accuracy", "exact_match", "slot_f1", "parse_rate")
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float
    total: int | None
    """Utterances, or answers, of which it is a share."""


@dataclass(frozen=True)
class Difference:
    """Candidate less champion on the same utterances; what was not computed is None."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    fixed: int | None
    broken: int | None
    trend: str
    """`better`, `worse`, or nothing where chance explains it."""


@dataclass(frozen=True)
class Headline:
    """One row: a metric of both models."""

    name: str
    label: str
    explanation: str
    candidate: Estimate
    champion: Estimate | None
    difference: Difference | None


def list_headlines(review: Review) -> list[Headline]:
    """A row for each metric that the candidate's report has."""
    rows = []
    for name, label, explanation in _RATES:
        candidate = _estimate(review.report, name)
        if candidate is None:
            continue
        champion = _estimate(review.champion, name) if review.champion else None
        rows.append(
            Headline(
                name=name,
                label=label,
                explanation=explanation,
                candidate=candidate,
                champion=champion,
                difference=_differ(review, name, candidate, champion),
            )
        )
    return rows


def find_axis(rows: list[Headline]) -> float:
    """Where an axis that ends at 1 begins, in tenths, so that every usual metric is on it.

    What is measured on few utterances, or small when all is well, would press the rest together.
    """
    both = [e for row in rows if row.name in _USUAL for e in (row.candidate, row.champion)]
    return int(min([0.9, *(e.low for e in both if e is not None)]) * 10 + 1e-9) / 10


def _estimate(report: EvaluationReport, name: str) -> Estimate | None:
    found: Measure | SlotScore | None = report.slots if name == "slot_f1" else getattr(report, name)
    if found is None:
        return None
    if isinstance(found, SlotScore):
        return Estimate(found.f1, found.low, found.high, None)
    return Estimate(found.value, found.low, found.high, found.total)


def _differ(
    review: Review, name: str, candidate: Estimate, champion: Estimate | None
) -> Difference | None:
    if champion is None:
        return None
    comparison = review.decision.comparison
    paired: PairedDifference | None = getattr(comparison, name, None)
    if paired is None:
        value = candidate.value - champion.value
        return Difference(value, None, None, None, None, None, "")
    rate = paired if isinstance(paired, PairedRate) else None
    p_value = rate.p_value if rate else None
    return Difference(
        value=paired.difference,
        low=paired.low,
        high=paired.high,
        p_value=p_value,
        fixed=rate.fixed if rate else None,
        broken=rate.broken if rate else None,
        trend=_name_trend(paired, p_value),
    )


def _name_trend(paired: PairedDifference, p_value: float | None) -> str:
    beyond_chance = paired.low > 0 or paired.high < 0 if p_value is None else p_value < SIGNIFICANT
    if not beyond_chance or not paired.difference:
        return ""
    return "better" if paired.difference > 0 else "worse"
