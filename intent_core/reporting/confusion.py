"""Which intent was answered for which, as a table small enough to read."""

from collections import Counter
from dataclasses import dataclass

from intent_core.evaluation.report import ConfusionCell, EvaluationReport

MOST_WHOLE = 20
"""Intents up to which the table shows them all; beyond, only those that were confused."""
MOST_CONFUSED = 30
MOST_PAIRS = 10
NONE = "(none)"
"""In place of an intent that no call answered, or that no call was expected for."""


@dataclass(frozen=True)
class Cell:
    """How often one intent was answered for another, and what share of the expected calls it is."""

    times: int
    share: float
    is_right: bool


@dataclass(frozen=True)
class ConfusionTable:
    """A row an expected intent, a column an answered one; None: no call."""

    intents: tuple[str | None, ...]
    rows: tuple[tuple[Cell, ...], ...]
    pairs: tuple[ConfusionCell, ...]
    """The confusions there are most of."""
    num_confused: int
    """Intents that were confused at all."""
    num_pairs: int
    num_right_left_out: int
    """Intents that were never confused and are not in the table."""


def tabulate_confusion(report: EvaluationReport) -> ConfusionTable:
    """All intents where they are few, else those with the most confusions."""
    counts = Counter({(cell.expected, cell.predicted): cell.count for cell in report.confusion})
    pairs = [c for c in report.confusion if c.expected != c.predicted and c.count]
    pairs.sort(key=lambda c: (-c.count, c.expected or "", c.predicted or ""))
    weights: Counter[str | None] = Counter()
    for cell in pairs:
        weights[cell.expected] += cell.count
        weights[cell.predicted] += cell.count
    known = {name for cell in report.confusion for name in (cell.expected, cell.predicted)}
    intents = known - {None}
    confused = set(weights) - {None}
    shown = intents
    if len(intents) > MOST_WHOLE:
        ranked = sorted(confused, key=lambda name: (-weights[name], name or ""))
        shown = set(ranked[:MOST_CONFUSED])
    ordered: tuple[str | None, ...] = tuple(sorted(shown, key=str))
    if None in known and shown:
        ordered = (*ordered, None)
    totals: Counter[str | None] = Counter()
    for (expected, _), times in counts.items():
        totals[expected] += times
    rows = tuple(
        tuple(
            Cell(
                times=counts[expected, predicted],
                share=counts[expected, predicted] / (totals[expected] or 1),
                is_right=expected == predicted,
            )
            for predicted in ordered
        )
        for expected in ordered
    )
    return ConfusionTable(
        intents=ordered,
        rows=rows,
        pairs=tuple(pairs[:MOST_PAIRS]),
        num_confused=len(confused),
        num_pairs=len(pairs),
        num_right_left_out=len(intents) - len(confused | shown),
    )
