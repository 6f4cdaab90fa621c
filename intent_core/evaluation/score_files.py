"""Scores a file of answers against a file of labelled examples.

Both are read by the reader of exports. A rejected row of the test set is counted, and the answer to
it is not scored; an answer that is not a list of calls is scored as wrong.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from intent_core.datasets.manifest import Example
from intent_core.errors import DataError
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.metrics import METRICS
from intent_core.evaluation.prediction import Prediction, read_answer
from intent_core.evaluation.report import EvaluationReport
from intent_core.exports.files.json_rows import Row, RowFault, RowRefused, name_type, refuse_row
from intent_core.exports.files.sources import iter_rows
from intent_core.exports.formats import detect_format
from intent_core.exports.reader import fold_row, reject
from intent_core.exports.reader import read_answer as read_row
from intent_core.exports.records import RowReport, Tally, check_rejections
from intent_core.exports.row_answer import RowAnswer, read_utterance
from intent_core.recipe.config import DataConfig, PipelineConfig


class _TestSet(NamedTuple):
    """The usable rows of a test set, and what is known of the others."""

    examples: list[Example]
    rejected_ids: set[str]
    num_unreadable: int
    """Rejected rows whose utterance is not known."""
    tally: Tally


class _Answers(NamedTuple):
    predictions: list[Prediction]
    tally: Tally


class _Numbered:
    """Gives each row an id: the utterance and how often it has occurred so far."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def identify(self, utterance: str) -> str:
        self._seen[utterance] += 1
        return f"{utterance} #{self._seen[utterance]}"


def score_files(
    gold: Path,
    predictions: Path,
    config: PipelineConfig = PipelineConfig(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Score answers against labels, matched by utterance; repeated utterances in file order.

    Args:
        gold: the labelled rows, in any format of an export.
        predictions: rows of any such format with the answers as their labels, or LLaMA-Factory's
            `generated_predictions.jsonl`. The format of these rows is always detected.
        config: the recipe; `data` sets how the files are read, `evaluate` how answers are compared.

    Returns:
        The metrics with their intervals and the counts of rejected rows, as a flat JSON object.

    Raises:
        DataError: a file cannot be read or does not contain rows, too many of its rows are
            rejected, or an answer has an utterance that `gold` does not contain.
    """
    expected = _read_gold(gold, config.data)
    answers = _read_predictions(predictions, config.data)
    scored = _choose_scored(expected, answers.predictions)
    report = evaluate(expected.examples, scored, config.evaluate)
    return {
        **summarise(report),
        "num_missing_predictions": len(expected.examples) - len(scored),
        "num_rejected": expected.tally.num_rejections,
        "rejections": dict(expected.tally.reasons),
        "reports": dict(expected.tally.reports),
        "num_rejected_predictions": answers.tally.num_rejections,
        "rejected_predictions": dict(answers.tally.reasons),
        "num_unscored_predictions": len(answers.predictions) - len(scored),
    }


def _read_gold(path: Path, config: DataConfig) -> _TestSet:
    gold = _TestSet([], set(), 0, Tally())
    num_unreadable = 0
    numbered = _Numbered()
    for source, row in _iter_some(path, config):
        answer = row.fault or read_row(row.value, config, row.slips, row.repeats)
        if isinstance(answer, RowAnswer):
            gold.examples.append(_make_example(numbered.identify(answer.utterance), answer))
            gold.tally.count(1, (), _report(source, row, answer))
            continue
        gold.tally.count(0, [reject(source, row, answer)], ())
        try:
            gold.rejected_ids.add(numbered.identify(_find_utterance(row, config)))
        except RowRefused:
            num_unreadable += 1
    check_rejections(gold.tally, path, config.max_rejection_rate)
    return gold._replace(num_unreadable=num_unreadable)


def _read_predictions(path: Path, config: DataConfig) -> _Answers:
    config = config.model_copy(update={"format": "auto"})
    answers = _Answers([], Tally())
    numbered = _Numbered()
    for source, row in _iter_some(path, config):
        try:
            identity = numbered.identify(_find_utterance(row, config))
            text = _find_answer(row, config)
        except RowRefused as refused:
            reason, message = refused.args
            fault = RowFault(reason, message)
            answers.tally.count(0, [reject(source, row, fault)], ())
        else:
            answers.predictions.append(read_answer(identity, text))
            answers.tally.count(1, (), ())
    check_rejections(answers.tally, path, config.max_rejection_rate)
    return answers


def _iter_some(path: Path, config: DataConfig) -> Iterator[tuple[str, Row]]:
    is_empty = True
    for source, row in iter_rows(path, config):
        is_empty = False
        yield source, row
    if is_empty:
        raise DataError(f"{path} does not contain rows: write it again")


def _find_utterance(row: Row, config: DataConfig) -> str:
    """Return the utterance as the reader cleans it. Raises `RowRefused`."""
    value = _get_object(row)
    utterance = detect_format(value, config).find_utterance(value, config)
    return read_utterance({config.utterance_field: utterance}, config.utterance_field, [])


def _find_answer(row: Row, config: DataConfig) -> str:
    value = _get_object(row)
    return detect_format(value, config).find_answer(value, config)


def _get_object(row: Row) -> dict[str, Any]:
    if row.fault:
        refuse_row(row.fault.reason, row.fault.message)
    if not isinstance(row.value, dict):
        refuse_row("not-an-object", f"a row must be a JSON object, not {name_type(row.value)}")
    return fold_row(row.value)


def _make_example(identity: str, answer: RowAnswer) -> Example:
    return Example(
        id=identity,
        instruction=answer.utterance,
        output=answer.output,
        alternatives=answer.alternatives,
        tags=dict(answer.tags),
    )


def _report(source: str, row: Row, answer: RowAnswer) -> list[RowReport]:
    place = (source, row.line, row.offset)
    origin = (answer.mark_result, answer.annotator)
    return [RowReport(*place, note.kind, note.message, *origin) for note in answer.notes]


def _choose_scored(gold: _TestSet, predictions: Sequence[Prediction]) -> list[Prediction]:
    """Leave out answers to rejected rows of the test set; all others must have an example."""
    ids = {example.id for example in gold.examples}
    scored = [p for p in predictions if p.example_id not in gold.rejected_ids]
    unknown = [p for p in scored if p.example_id not in ids]
    if len(unknown) <= gold.num_unreadable:
        return [p for p in scored if p.example_id in ids]
    return scored


def summarise(report: EvaluationReport) -> dict[str, Any]:
    """Return the report as a flat object, each metric with its interval."""
    values: dict[str, Any] = {}
    for name in METRICS:
        if estimate := report.metrics.get(name):
            values[name] = estimate.value
            values[f"{name}_interval"] = [estimate.low, estimate.high]
    return {
        "num_examples": report.num_examples,
        **values,
        "slot_precision": report.slots.precision,
        "slot_recall": report.slots.recall,
        "documents": report.documents.model_dump(),
        "normalised": report.normalised_counts,
        "failures": dict(Counter(failure.reason for failure in report.failures)),
    }
