"""What a model answered, and which example it answered."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from intent_core.datasets.manifest import Example
from intent_core.errors import CallSyntaxError, DataError
from intent_core.language.calls import parse_calls

PREDICTIONS_FILE = "predictions.jsonl"
MOST_NAMED = 5


class Prediction(BaseModel):
    """What a model answered to one example; `error` when it did not, or not properly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    example_id: str
    text: str
    error: str | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    confidence: float | None = None
    """The model's probability of this answer, all its tokens together; NaN is None."""

    @field_validator("confidence")
    @classmethod
    def _is_a_number(cls, confidence: float | None) -> float | None:
        return confidence if confidence is not None and math.isfinite(confidence) else None

    @property
    def is_absent(self) -> bool:
        """Whether the model never answered, rather than badly."""
        return self.error is not None and not self.text.strip()


def read_answer(example_id: str, text: str, latency_ms: float | None = None) -> Prediction:
    """A prediction from a model's answer; one that does not parse has an `error`."""
    text, error = text.strip(), None
    try:
        parse_calls(text)
    except CallSyntaxError as fault:
        error = str(fault)
    return Prediction(example_id=example_id, text=text, error=error, latency_ms=latency_ms)


def measure_confidence(logprobs: Sequence[float]) -> float | None:
    """The probability of an answer from those of its tokens; None when the server gave none."""
    total = sum(logprobs)
    return min(1.0, math.exp(total)) if logprobs and not math.isnan(total) else None


def read_complete_predictions(path: Path) -> list[Prediction]:
    """The predictions of a JSONL file up to the first incomplete line."""
    if not path.exists():
        return []
    predictions = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            predictions.append(Prediction.model_validate_json(line))
        except ValidationError:
            break
    return predictions


def match_predictions(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> dict[str, Prediction]:
    """The predictions by example; `DataError` when they do not belong together."""
    if not examples:
        raise DataError("no examples to evaluate on: the test split is empty")
    _refuse("examples share an id", _repeated(e.id for e in examples))
    _refuse("more than one prediction for example", _repeated(p.example_id for p in predictions))
    by_id = {p.example_id: p for p in predictions}
    _refuse("predictions for unknown example", sorted(by_id.keys() - {e.id for e in examples}))
    return by_id


def _repeated(ids: Iterable[str]) -> list[str]:
    return [identifier for identifier, count in Counter(ids).items() if count > 1]


def _refuse(what: str, ids: Sequence[str]) -> None:
    if ids:
        more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
        raise DataError(f"{what}: {', '.join(map(repr, ids[:MOST_NAMED]))}{more}")
