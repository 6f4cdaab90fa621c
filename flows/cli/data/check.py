"""`intent check`: print the data check of an export."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import show_counts
from intent_core.datasets.check_export import ExportCheck, Sample
from intent_core.models.base_model import SampleTokens, count_tokens
from intent_core.quality.findings import show_rows
from intent_core.recipe.config import TrainConfig
from tasks.models.base_models import fetch_base_model
from tasks.settings import get_settings
from tasks.settings.private_home import private_umask


def count_sample_tokens(samples: list[Sample], train: TrainConfig) -> SampleTokens:
    """Return the number of tokens of each sample; downloads the base model if needed."""
    settings = get_settings()
    with private_umask():  # the rest of the command writes with the user's
        base = fetch_base_model(settings, train.base_model)
        return count_tokens(samples, train, base, settings.layout.tokenizers)


def show_check(console: Console, path: Path, check: ExportCheck) -> None:
    """Print the numbers of rows, then the findings, each with its remedy."""
    console.print(
        f"{path}: {check.records} of {check.objects} rows are usable, {check.utterances} "
        f"distinct utterances, {check.intents} intents",
        soft_wrap=True,
        markup=False,
    )
    show_counts(check.reasons, check.reports)
    table = Table(show_lines=True)
    table.add_column("rule", no_wrap=True)
    table.add_column("finding and remedy", overflow="fold")
    for finding in check.findings:
        colour = "yellow" if finding.severity == "warning" else "default"
        rows = show_rows(finding)
        said = Text.assemble(
            finding.message, "\n", (finding.remedy, "italic"), f"\nRows: {rows}" if rows else ""
        )
        table.add_row(f"[{colour}]{finding.rule}[/]\n{finding.severity}", said)
    console.print(table)
