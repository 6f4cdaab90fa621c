"""`intent score`: answers in a file against a test set in a file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from intent_core.datasets.manifest import Example
from intent_core.errors import DataError
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import read_answer
from intent_core.evaluation.report import EvaluationReport, Measure

_RATES = ("intent_accuracy", "parameter_accuracy", "exact_match", "parse_rate")


class LabelledRow(BaseModel):
    """A row of the documents' format."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    instruction: str
    output: str


def score_files(gold: Path, predictions: Path) -> dict[str, Any]:
    """Match answers to the test set by instruction; an instruction twice, in their order.

    Raises `DataError` for an answer to an instruction the test set does not have.
    """
    expected, answered = read_rows(gold), read_rows(predictions)
    examples = [
        Example(id=identity, instruction=row.instruction, output=row.output)
        for identity, row in identify(expected)
    ]
    answers = [read_answer(identity, row.output) for identity, row in identify(answered)]
    report = evaluate(examples, answers)
    missing = len(examples) - len(answers)
    return {**summarise(report), "num_missing_predictions": missing}


def read_rows(path: Path) -> list[LabelledRow]:
    try:
        return TypeAdapter(list[LabelledRow]).validate_python(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f'{path}: row {where}: {first["msg"]}; wanted [{{"instruction", "output"}}]'
        ) from error


def identify(rows: Sequence[LabelledRow]) -> list[tuple[str, LabelledRow]]:
    """Rows with ids: the instruction, and which of its occurrences."""
    seen: Counter[str] = Counter()
    identified = []
    for row in rows:
        instruction = row.instruction
        seen[instruction] += 1
        identified.append((f"{instruction} #{seen[instruction]}", row))
    return identified


def summarise(report: EvaluationReport) -> dict[str, Any]:
    """The report flat, each rate with its interval beside it."""
    rates: dict[str, Any] = {}
    for name in _RATES:
        measure: Measure = getattr(report, name)
        rates[name] = measure.value
        rates[f"{name}_interval"] = [measure.low, measure.high]
    return {
        "num_examples": report.num_examples,
        **rates,
        "slot_precision": report.slots.precision,
        "slot_recall": report.slots.recall,
        "slot_f1": report.slots.f1,
        "slot_f1_interval": [report.slots.low, report.slots.high],
        "documents": report.documents.model_dump(),
        "failures": dict(Counter(failure.reason for failure in report.failures)),
    }


def show_report(console: Console, report: dict[str, Any]) -> None:
    table = Table("metric", "value", "95 % interval", title=f"{report['num_examples']} utterances")
    for name in (*_RATES, "slot_f1"):
        low, high = report[f"{name}_interval"]
        table.add_row(name, f"{report[name]:.3f}", f"{low:.3f} to {high:.3f}")
    for name in ("slot_precision", "slot_recall"):
        table.add_row(name, f"{report[name]:.3f}", "")
    for name, value in report["documents"].items():
        table.add_row(f"documents' {name}", f"{value:.3f}", "")
    console.print(table)
    if report["num_missing_predictions"] > 0:
        console.print(f"{report['num_missing_predictions']} utterances have no answer: wrong")
    for reason, count in sorted(report["failures"].items(), key=lambda item: -item[1]):
        console.print(f"  {count:5d} {reason}")
