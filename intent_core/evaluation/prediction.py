"""Predictions: the answers of a model, matched to examples by id."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from intent_core.datasets.manifest import Example
from intent_core.errors import CallSyntaxError, DataError
from intent_core.language.calls import parse_calls
from intent_core.language.invisible import strip_invisible

PREDICTIONS_FILE = "predictions.jsonl"
MOST_NAMED = 5


class Prediction(BaseModel):
    """The answer to one example; `error` is set if the request failed or it does not parse."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    example_id: str
    text: str
    error: str | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    confidence: float | None = None
    """Probability of the whole answer (product over its tokens), 0 to 1; NaN is read as None."""

    @field_validator("confidence")
    @classmethod
    def _is_a_number(cls, confidence: float | None) -> float | None:
        return confidence if confidence is not None and math.isfinite(confidence) else None

    @property
    def is_absent(self) -> bool:
        """Whether there is no answer at all, as opposed to a bad answer."""
        return self.error is not None and not self.text.strip()


def read_answer(example_id: str, text: str, latency_ms: float | None = None) -> Prediction:
    """Return a prediction for an answer; its `error` is set if the answer does not parse.

    Args:
        example_id: id of the example.
        text: the answer; surrounding whitespace and invisible characters are removed.
        latency_ms: duration of the request in milliseconds, if measured.
    """
    text, error = strip_invisible(text).strip(), None
    try:
        parse_calls(text)
    except CallSyntaxError as fault:
        error = str(fault)
    return Prediction(example_id=example_id, text=text, error=error, latency_ms=latency_ms)


def read_complete_predictions(path: Path) -> list[Prediction]:
    """Return the predictions of a JSONL file up to the first incomplete line.

    Args:
        path: file with one `Prediction` per line; [] is returned if it does not exist.
    """
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
    """Return the predictions by example id.

    Raises:
        DataError: there are no examples, an id is repeated, or a prediction has an unknown id.
    """
    if not examples:
        raise DataError("the test split is empty: there are no examples to evaluate on")
    _refuse("duplicate example ids", _repeated(e.id for e in examples))
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
