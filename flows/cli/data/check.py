"""`intent check`: what the data check says of an export, without a run."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import show_counts
from intent_core.datasets.build import describe_suspicions, make_corpus
from intent_core.datasets.deduplicate import Settled, settle
from intent_core.datasets.manifest import (
    CONFLICTS_FILE,
    FINDINGS_FILE,
    LABEL_ERRORS_FILE,
    REJECTIONS_FILE,
    REPORTS_FILE,
)
from intent_core.datasets.splits import place_utterances
from intent_core.exports.reader import read_export
from intent_core.exports.records import ExportReading, check_rejections
from intent_core.files import write_jsonl
from intent_core.language.calls import parse_calls
from intent_core.language.intent_schema import list_intents
from intent_core.quality.coverage import check_quality
from intent_core.quality.findings import Corpus, Finding, render_findings
from intent_core.recipe.config import PipelineConfig
from tasks.models.base_models import fetch_base_model
from tasks.settings import get_settings


class ExportCheck(BaseModel):
    """What became of an export's rows, and what the data check finds in the usable ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objects: int
    records: int
    rejections: int
    reasons: dict[str, int]
    reports: dict[str, int]
    utterances: int
    intents: int
    findings: tuple[Finding, ...]


def check_export(
    path: Path, config: PipelineConfig, *, with_tokens: bool, out: Path | None = None
) -> ExportCheck:
    """Read and check an export as a run would, short of splitting it.

    The rows behind the findings go to the folder `out`. Raises `DataError` when the file cannot
    be read or too many rows are unusable.
    """
    reading = read_export(path, config.data)
    check_rejections(reading.tally, path, config.data.max_rejection_rate)
    settled = settle(reading.records, config.data)
    records = [record for group in settled.kept.values() for record in group]
    # Nothing is split off here: all utterances stand on one side.
    whole = config.data.model_copy(update={"test_fraction": 0.0, "validation_fraction": 0.0})
    labels = [parse_calls(record.output) for record in records]
    placement = place_utterances(list(settled.kept), whole)
    utterances = [record.utterance for record in records]
    corpus = make_corpus(utterances, labels, settled, placement)
    fixed = config.train.seq_length
    corpus = corpus._replace(seq_length=None if fixed == "auto" else fixed)
    if with_tokens:
        from intent_core.models.lengths import count_tokens

        base = fetch_base_model(get_settings(), config.train.base_model)
        samples = [(record.utterance, record.output) for record in records]
        corpus = corpus._replace(lengths=count_tokens(samples, config.train, base.path))
    findings = check_quality(corpus)
    if out:
        _write_rows(out, reading, settled, corpus)
        text = render_findings(findings, f"Data check of {path.name}")
        (out / FINDINGS_FILE).write_text(text, encoding="utf-8")
    return ExportCheck(
        objects=reading.tally.num_objects,
        records=len(reading.records),
        rejections=len(reading.rejections),
        reasons=dict(reading.tally.reasons),
        reports=dict(reading.tally.reports),
        utterances=len(records),
        intents=len(list_intents(labels)),
        findings=findings,
    )


def _write_rows(out: Path, reading: ExportReading, settled: Settled, corpus: Corpus) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(reading.rejections, out / REJECTIONS_FILE)
    write_jsonl(reading.reports, out / REPORTS_FILE)
    write_jsonl(settled.conflicts, out / CONFLICTS_FILE)
    write_jsonl(describe_suspicions(corpus), out / LABEL_ERRORS_FILE)


def show_check(console: Console, path: Path, check: ExportCheck) -> None:
    """The check for a person: rows, then findings, each with what to do."""
    console.print(
        f"{path}: {check.records} of {check.objects} rows are usable, {check.utterances} "
        f"different utterances, {check.intents} intents",
        soft_wrap=True,
        markup=False,
    )
    show_counts(check.reasons, check.reports)
    table = Table(show_lines=True)
    table.add_column("rule", no_wrap=True)
    table.add_column("what, and what to do", overflow="fold")
    for finding in check.findings:
        colour = "yellow" if finding.severity == "warning" else "default"
        said = Text.assemble(finding.message, "\n", (finding.remedy, "italic"))
        table.add_row(f"[{colour}]{finding.rule}[/]\n{finding.severity}", said)
    console.print(table)
