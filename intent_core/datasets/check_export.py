"""The data check of an export, without a run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict

from intent_core.datasets.build import make_corpus
from intent_core.datasets.deduplicate import Deduplication, deduplicate
from intent_core.datasets.manifest import FINDINGS_FILE, REJECTIONS_FILE, REPORTS_FILE
from intent_core.datasets.sample_length import judge_length
from intent_core.datasets.splits import place_utterances
from intent_core.exports.files.json_rows import MAX_RAW, RowFault
from intent_core.exports.reader import read_export
from intent_core.exports.records import (
    ExportReading,
    Record,
    Rejection,
    Tally,
    check_rejections,
)
from intent_core.files import write_jsonl
from intent_core.language.intent_schema import list_intents
from intent_core.models.base_model import SampleTokens
from intent_core.quality.coverage import check_quality
from intent_core.quality.findings import (
    Finding,
    RuleResult,
    render_findings,
    write_finding_rows,
)
from intent_core.recipe.config import PipelineConfig, TrainConfig

Sample = tuple[str, str]
"""(utterance, output)"""
TokenCounter = Callable[[list[Sample], TrainConfig], SampleTokens]
"""Counts the tokens of each sample, prompt and answer, for the recipe's base model."""


class ExportCheck(BaseModel):
    """Counts of an export's rows, and the findings of the data check about the usable ones."""

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
    path: Path,
    config: PipelineConfig,
    *,
    count_tokens: TokenCounter | None = None,
    out: Path | None = None,
) -> ExportCheck:
    """Read and check an export as a run does, but without splitting it.

    Args:
        path: the export.
        config: the recipe.
        count_tokens: counts the tokens of samples; None: their lengths are not checked.
        out: folder for the findings and the rows behind them; None: not written.

    Raises:
        DataError: the export cannot be read, or too many rows were rejected.
        ConfigError: there are too many near-duplicates to compare.
    """
    reading = read_export(path, config.data)
    check_rejections(reading.tally, path, config.data.max_rejection_rate)
    unique = deduplicate(reading.records, config.data)
    lengths: list[int] = []
    rejections = reading.rejections
    if count_tokens:
        lengths, too_long = _take_out_long(unique, config.train, count_tokens, reading.tally)
        check_rejections(reading.tally, path, config.data.max_rejection_rate)
        # First, because the last one of the others may state how many are not listed.
        rejections = (*too_long, *rejections)
    records = unique.kept.select(unique.kept)
    # Do not hold out anything: all utterances are in the training split.
    whole = config.data.model_copy(update={"test_fraction": 0.0, "validation_fraction": 0.0})
    corpus = make_corpus(records, unique, place_utterances(list(unique.kept), whole))
    fixed = config.train.seq_length
    # The lengths include those of rejected samples, because a value for all is recommended.
    corpus = corpus._replace(
        seq_length=None if fixed == "auto" else fixed,
        lengths=lengths,
        vocabulary=config.data.vocabulary,
    )
    results = check_quality(corpus)
    findings = tuple(result.finding for result in results)
    if out:
        _write_rows(out, reading, rejections, results)
        text = render_findings(findings, f"Data check of {path.name}")
        (out / FINDINGS_FILE).write_text(text, encoding="utf-8")
    return ExportCheck(
        objects=reading.tally.num_objects,
        records=reading.tally.num_records,
        rejections=reading.tally.num_rejections,
        reasons=dict(reading.tally.reasons),
        reports=dict(reading.tally.reports),
        utterances=len(records),
        intents=len(list_intents(corpus.labels)),
        findings=findings,
    )


def _take_out_long(
    unique: Deduplication, config: TrainConfig, count_tokens: TokenCounter, tally: Tally
) -> tuple[list[int], list[Rejection]]:
    """Remove the samples that are too long to be trained; return all lengths and the rejections."""
    records = unique.kept.select(unique.kept)
    tokens = count_tokens([(r.utterance, r.output) for r in records], config)
    faults: list[tuple[Record, RowFault]] = []
    counts = iter(tokens.counts)
    for name in list(unique.kept):
        fitting = []
        for row, record in zip(unique.kept.list_rows(name), unique.kept[name], strict=True):
            if fault := judge_length(next(counts), config, tokens.positions):
                faults.append((record, fault))
            else:
                fitting.append(row)
        unique.kept.keep(name, fitting)
    for record, fault in faults:
        tally.withdraw(fault.reason, f"{record.source}:{record.line}: {fault.message}")
    return tokens.counts, [_reject(record, fault) for record, fault in faults]


def _reject(record: Record, fault: RowFault) -> Rejection:
    row = orjson.dumps({"instruction": record.utterance, "output": record.output}).decode()
    return Rejection(
        source=record.source,
        line=record.line,
        byte_offset=record.byte_offset,
        reason=fault.reason,
        message=fault.message,
        raw=row[:MAX_RAW],
        mark_result=record.mark_result,
        annotator=record.annotator,
    )


def _write_rows(
    out: Path,
    reading: ExportReading,
    rejections: Sequence[Rejection],
    results: Sequence[RuleResult],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(rejections, out / REJECTIONS_FILE)
    write_jsonl(reading.reports, out / REPORTS_FILE)
    write_finding_rows(results, out)
