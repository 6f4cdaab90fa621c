"""The confusion matrix, reduced to a readable size."""

from collections import Counter
from dataclasses import dataclass

from intent_core.evaluation.report import ConfusionCell, EvaluationReport

MOST_WHOLE = 20
"""Up to this many intents the table shows all of them, above it only those that were confused."""
MOST_CONFUSED = 30
MOST_PAIRS = 10
NONE = "(none)"
"""Label for a missing call (no answered intent) or an extra call (no expected intent)."""


@dataclass(frozen=True)
class Cell:
    """How often an intent was answered for an expected one, and its fraction of expected calls."""

    times: int
    share: float
    is_right: bool


@dataclass(frozen=True)
class ConfusionTable:
    """The matrix: a row per expected intent, a column per answered intent; None means no call."""

    intents: tuple[str | None, ...]
    rows: tuple[tuple[Cell, ...], ...]
    pairs: tuple[ConfusionCell, ...]
    """The most frequent confusions."""
    num_confused: int
    """Number of intents that were confused at least once."""
    num_pairs: int
    num_right_left_out: int
    """Number of intents that were never confused and are not in the table."""


def tabulate_confusion(report: EvaluationReport) -> ConfusionTable:
    """Return the matrix over all intents, or over the most confused ones if there are many."""
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
