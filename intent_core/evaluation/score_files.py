"""Scores a file of answers against a file of labelled examples."""

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
    """A row in the PAI guide's training format."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    instruction: str
    output: str


def score_files(gold: Path, predictions: Path) -> dict[str, Any]:
    """Score answers against labels, matched by instruction; repeated instructions in file order.

    Args:
        gold: JSON file with the labelled rows, `[{"instruction", "output"}]`.
        predictions: JSON file of the same form with the answers as `output`.

    Returns:
        The metrics with their intervals, as a flat JSON object.

    Raises:
        DataError: a file cannot be read or has another form, or an answer has an instruction that
            `gold` does not contain.
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
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: invalid JSON: {error.msg}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f'{path}: row {where}: {first["msg"]}. Expected [{{"instruction", "output"}}]'
        ) from error


def identify(rows: Sequence[LabelledRow]) -> list[tuple[str, LabelledRow]]:
    """Return (id, row) for each row; the id is the instruction and its occurrence number."""
    seen: Counter[str] = Counter()
    identified = []
    for row in rows:
        instruction = row.instruction
        seen[instruction] += 1
        identified.append((f"{instruction} #{seen[instruction]}", row))
    return identified


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
        "failures": dict(Counter(failure.reason for failure in report.failures)),
    }
