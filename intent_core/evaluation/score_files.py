"""Answers in a file scored against a test set in a file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from intent_core.datasets.manifest import Example
from intent_core.errors import DataError
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.metrics import METRICS
from intent_core.evaluation.prediction import read_answer
from intent_core.evaluation.report import EvaluationReport


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
    """The report flat, each metric with its interval."""
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
        "failures": dict(Counter(failure.reason for failure in report.failures)),
    }
