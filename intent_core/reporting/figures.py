"""Draws the figures of a review as PNG. Utterances are never drawn; the page has them as text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from intent_core.evaluation.report import Estimate, EvaluationReport, Measure
from intent_core.reporting.confusion import NONE, ConfusionTable, tabulate_confusion
from intent_core.reporting.headline_metrics import find_axis, list_headlines
from intent_core.reporting.plot_style import (
    LIGHT,
    Palette,
    add_legend,
    find_font,
    start_figure,
    thin,
    to_png,
)
from intent_core.reporting.review import Review
from intent_core.reporting.untrusted_text import shorten, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUM_BINS = 20
_LONGEST_NAME = 28


def draw_figures(
    review: Review, palette: Palette = LIGHT, names: Collection[str] | None = None
) -> dict[str, bytes]:
    """Return the figures as PNG bytes by file name.

    Figures without data, such as confidences that were not measured, are omitted.

    Args:
        review: the data of the report page.
        palette: colours, for a light or a dark background.
        names: file names of the figures to draw; None draws all of them.
    """
    drawings: dict[str, Callable[[Review, Palette], Figure | None]] = {
        "intervals.png": _draw_intervals,
        "confidence.png": _draw_confidence,
        "risk_coverage.png": _draw_risk_coverage,
        "training_curve.png": _draw_training,
        "confusion.png": _draw_confusion,
    }
    chosen = drawings if names is None else {n: d for n, d in drawings.items() if n in names}
    drawn = {name: draw(review, palette) for name, draw in chosen.items()}
    return {name: to_png(figure) for name, figure in drawn.items() if figure is not None}


def _draw_intervals(review: Review, palette: Palette) -> Figure:
    rows = list_headlines(review)
    start = find_axis(rows, review.report.num_examples)
    rows = [row for row in rows if row.candidate.value >= start]
    figure, axes = start_figure(6.4, 0.9 + 0.42 * len(rows), palette)
    offset = 0.14 if review.champion else 0.0
    candidate = [(i - offset, row.candidate) for i, row in enumerate(rows)]
    champion = [(i + offset, row.champion) for i, row in enumerate(rows) if row.champion]
    _add_intervals(axes, candidate, palette.accent, "candidate")
    if champion:
        _add_intervals(axes, champion, palette.muted, "champion")
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(100 * start, 101)
    axes.set_xlabel("percent, with 95 % intervals")
    axes.grid(axis="x", color=palette.line, linewidth=0.6)
    if champion:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper right",
            ncols=2,
            frameon=False,
            fontsize=8,
            labelcolor=palette.ink,
        )
    return figure


def _add_intervals(
    axes: Axes, estimates: Sequence[tuple[float, Measure | Estimate]], colour: str, label: str
) -> None:
    lower = [100 * max(0.0, e.value - e.low) for _, e in estimates]
    upper = [100 * max(0.0, e.high - e.value) for _, e in estimates]
    axes.errorbar(
        [100 * e.value for _, e in estimates],
        [place for place, _ in estimates],
        xerr=[lower, upper],
        fmt="o",
        color=colour,
        markersize=4.5,
        elinewidth=1.4,
        capsize=3,
        label=label,
    )


def _draw_confidence(review: Review, palette: Palette) -> Figure | None:
    known, right = _confidences(review.report)
    if not len(known):
        return None
    figure, axes = start_figure(4.4, 2.7, palette)
    bins = np.linspace(0, 1, _NUM_BINS + 1)
    for chosen, colour, label in (
        (known[right], palette.accent, "right"),
        (known[~right], palette.bad, "wrong"),
    ):
        if len(chosen):
            shares = np.full(len(chosen), 100 / len(chosen))
            axes.hist(
                chosen,
                bins=list(bins),
                weights=shares,
                histtype="stepfilled",
                facecolor=(colour, 0.22),
                edgecolor=colour,
                linewidth=1.3,
                label=f"{label} ({len(chosen):,})",
            )
    axes.set_xlim(0, 1)
    axes.set_xlabel("confidence of the answer")
    axes.set_ylabel("percent of right / wrong answers")
    add_legend(axes, palette)
    return figure


def _confidences(report: EvaluationReport) -> tuple[np.ndarray, np.ndarray]:
    """Return the known confidences, clipped to 0 to 1, and whether each answer was right."""
    outcomes = report.outcomes
    values = np.array([np.nan if c is None else c for c in outcomes.confidence], dtype=float)
    right = np.frombuffer(outcomes.exact.encode("ascii"), dtype=np.uint8) == ord("1")
    known = np.isfinite(values)
    return np.clip(values[known], 0, 1), right[known]


def _draw_risk_coverage(review: Review, palette: Palette) -> Figure | None:
    if not review.report.risk_coverage:
        return None
    figure, axes = start_figure(4.4, 2.7, palette)
    lines = [("candidate", palette.accent, review.report)]
    if review.champion and review.champion.risk_coverage:
        lines.insert(0, ("champion", palette.muted, review.champion))
    for label, colour, report in lines:
        points = thin(report.risk_coverage)
        axes.plot(
            [100 * p.coverage for p in points],
            [100 * p.risk for p in points],
            color=colour,
            linewidth=1.5,
            marker="o" if len(points) <= 30 else None,
            markersize=3,
            label=label,
        )
    axes.set_xlim(0, 101)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("percent answered, most confident first")
    axes.set_ylabel("percent of these that are wrong")
    axes.grid(color=palette.line, linewidth=0.6)
    if len(lines) > 1:
        add_legend(axes, palette)
    return figure


def _draw_training(review: Review, palette: Palette) -> Figure | None:
    losses = [(s, v) for s, v in review.losses if np.isfinite(v)]
    validations = [v for v in review.validations if np.isfinite(v[1])]
    if not losses and not validations:
        return None
    figure, axes = start_figure(6.4, 2.7, palette)
    if losses:
        axes.plot(
            [step for step, _ in thin(losses)],
            [loss for _, loss in thin(losses)],
            color=palette.accent,
            linewidth=1.3,
            label="training",
        )
    if validations:
        axes.plot(
            [step for step, _, _ in thin(validations)],
            [loss for _, loss, _ in thin(validations)],
            color=palette.bad,
            linewidth=0.8,
            marker="o",
            markersize=4,
            label="validation",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.grid(color=palette.line, linewidth=0.6)
    add_legend(axes, palette)
    return figure


def _draw_confusion(review: Review, palette: Palette) -> Figure | None:
    table = tabulate_confusion(review.report)
    names = [shorten(visible(n or NONE).replace("\n", " "), _LONGEST_NAME) for n in table.intents]
    font = find_font("".join(names))
    if not names or font is None:
        return None
    side = 1.8 + 0.3 * len(names)
    figure, axes = start_figure(side + 0.8, side, palette)
    _fill_confusion(axes, table, palette)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(fontfamily=font, fontsize=8, parse_math=False)
    axes.set_xlabel("answered")
    axes.set_ylabel("expected")
    return figure


def _fill_confusion(axes: Axes, table: ConfusionTable, palette: Palette) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shares = np.array([[cell.share for cell in row] for row in table.rows])
    colours = LinearSegmentedColormap.from_list("share", [palette.paper, palette.accent])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for row, cells in enumerate(table.rows):
        for column, cell in enumerate(cells):
            if cell.times:
                colour = palette.paper if cell.share > 0.5 else palette.ink
                axes.text(
                    column, row, str(cell.times), ha="center", va="center", size=7, color=colour
                )
