"""The headline metrics: the candidate's values next to the champion's."""

from dataclasses import dataclass

from intent_core.evaluation.metrics import METRICS, Metric
from intent_core.evaluation.paired_comparison import PairedDifference, PairedRate
from intent_core.evaluation.report import Estimate, Measure
from intent_core.reporting.review import Review

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """The difference, candidate - champion; values that were not computed are None."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    fixed: int | None
    broken: int | None
    trend: str
    """`better`, `worse`, or "" if the difference is not significant."""


@dataclass(frozen=True)
class Headline:
    """A row of the table: one metric of both models."""

    name: str
    label: str
    explanation: str
    candidate: Measure | Estimate
    champion: Measure | Estimate | None
    difference: Difference | None


def list_headlines(review: Review) -> list[Headline]:
    """Return a row for each metric in the candidate's report."""
    rows = []
    for name, metric in METRICS.items():
        candidate = review.report.metrics.get(name)
        if candidate is None:
            continue
        champion = review.champion.metrics.get(name) if review.champion else None
        rows.append(
            Headline(
                name=name,
                label=metric.label,
                explanation=metric.explanation
                + ("" if metric.higher_is_better else "; lower is better"),
                candidate=candidate,
                champion=champion,
                difference=_differ(review, metric, candidate, champion),
            )
        )
    return rows


def find_axis(rows: list[Headline], num_examples: int) -> float:
    """Return the start of an axis that ends at 1, in steps of 0.1, so that it fits the metrics.

    Metrics over a part of the utterances, and those where lower is better, are ignored: they would
    compress the others.
    """
    both = [
        estimate
        for row in rows
        if METRICS[row.name].higher_is_better
        for estimate in (row.candidate, row.champion)
        if estimate is not None and estimate.total in (None, num_examples)
    ]
    return int(min([0.9, *(estimate.low for estimate in both)]) * 10 + 1e-9) / 10


def _differ(
    review: Review,
    metric: Metric,
    candidate: Measure | Estimate,
    champion: Measure | Estimate | None,
) -> Difference | None:
    if champion is None:
        return None
    comparison = review.decision.comparison
    paired: PairedDifference | None = getattr(comparison, metric.name, None)
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
        trend=_name_trend(paired, p_value, metric),
    )


def _name_trend(paired: PairedDifference, p_value: float | None, metric: Metric) -> str:
    beyond_chance = paired.low > 0 or paired.high < 0 if p_value is None else p_value < SIGNIFICANT
    if not beyond_chance or not paired.difference:
        return ""
    return "better" if (paired.difference > 0) == metric.higher_is_better else "worse"
