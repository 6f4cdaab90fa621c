"""Output of `intent score`."""

from typing import Any

from rich.console import Console
from rich.table import Table

from flows.cli.terminal import show_counts
from intent_core.evaluation.metrics import METRICS


def show_report(console: Console, report: dict[str, Any]) -> None:
    count = report["num_examples"]
    table = Table(
        "metric", "value", "95 % interval", title=f"{count} utterance{'s' * (count != 1)}"
    )
    for name in filter(report.__contains__, METRICS):
        low, high = report[f"{name}_interval"]
        table.add_row(name, f"{report[name]:.3f}", f"{low:.3f} to {high:.3f}")
    for name in ("slot_precision", "slot_recall"):
        table.add_row(name, f"{report[name]:.3f}", "")
    for name, value in report["documents"].items():
        table.add_row(f"{name} (PAI guide)", f"{value:.3f}", "")
    console.print(table)
    if report["num_missing_predictions"] > 0:
        console.print(
            f"{report['num_missing_predictions']} utterances without an answer count as wrong"
        )
    show_counts(report["rejections"], report["reports"])
    for reason, count in report["rejected_predictions"].items():
        console.print(f"  rejected answers {count} x {reason}")
    if report["num_unscored_predictions"]:
        console.print(
            f"{report['num_unscored_predictions']} answers to rejected rows of the test set are "
            "not scored"
        )
    for kind, count in report["normalised"].items():
        console.print(f"  {count:5d} right only because of {kind}")
    for reason, count in sorted(report["failures"].items(), key=lambda item: -item[1]):
        console.print(f"  {count:5d} {reason}")
