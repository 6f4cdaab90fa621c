"""What a model answered, and which example it answered."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, field_validator

from intent_core.datasets.manifest import Example
from intent_core.errors import DataError

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
