"""What an evaluation finds: `EvaluationReport`, which the gate decides on and a reviewer reads."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

REPORT_VERSION = 2
"""Goes up when the same answers are judged or reported otherwise: old reports are not reused."""

FailureReason = Literal[
    "malformed",
    "missing_prediction",
    "wrong_intent",
    "missing_call",
    "extra_call",
    "missing_value",
    "extra_value",
    "wrong_value",
    "wrong_order",
]


RATES = (
    "intent_accuracy",
    "parameter_accuracy",
    "exact_match",
    "parse_rate",
    "unknown_intent_rate",
    "out_of_scope_recall",
    "out_of_scope_precision",
)
"""The metrics that have a field of a report, too."""


class Value(BaseModel):
    """A part of a report: never changed, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Measure(Value):
    """A rate with its 95 % Wilson interval, widened where utterances share a source."""

    value: float
    low: float
    high: float
    successes: int
    total: int


class Estimate(Value):
    """A number with its 95 % interval, where it is no share of utterances or answers."""

    value: float
    low: float
    high: float
    total: None = None


class IntentScore(Value):
    """The rates over the utterances whose gold has this intent."""

    intent: str
    support: int
    intent_accuracy: Measure
    parameter_accuracy: Measure
    exact_match: Measure


class SliceScore(Value):
    """The rates over the utterances of one kind, such as `intents=several` or `channel=phone`."""

    name: str
    value: str
    support: int
    intent_accuracy: Measure
    parameter_accuracy: Measure
    exact_match: Measure


class SlotScore(Value):
    """Micro-averaged over (intent, position or name, value) of matched calls.

    `low` and `high` are the 95 % bootstrap interval of F1 over utterances (or their sources).
    """

    precision: float
    recall: float
    f1: float
    low: float
    high: float


class ConfusionCell(Value):
    """How often a call of one intent was answered by one of another; None: by none, or for none."""

    expected: str | None
    predicted: str | None
    count: int


class Failure(Value):
    """An example that was not matched exactly; `predicted` is the raw answer."""

    example_id: str
    instruction: str
    expected: str
    predicted: str
    reason: FailureReason


class DocumentsScore(Value):
    """The documents' two numbers, by their rule: see `documents_score`."""

    intent_accuracy: float
    parameter_accuracy: float


class Latency(Value):
    """Milliseconds an answer took, nearest rank, and how many came in a second."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    first_token_p50_ms: float | None = None
    first_token_p95_ms: float | None = None
    utterances_per_second: float | None = None


class RiskPoint(Value):
    """Of the answers at least so confident: their share, and the share of them that is wrong."""

    threshold: float
    coverage: float
    risk: float


class Abstention(Value):
    """Answers less confident than `threshold` were read as `out_of_scope()`."""

    threshold: float
    num_abstained: int
    chosen_on: Literal["recipe", "validation"]


class Outcomes(Value):
    """One entry an example, in the test split's order, for paired tests and resampling.

    The three strings hold `1` for right and `0` for wrong. `groups` names each example's source
    where some share one, and is empty where none do. `confidence` is None without an answer.
    """

    ids: tuple[str, ...]
    intents_right: str
    parameters_right: str
    exact: str
    slot_hits: tuple[int, ...]
    slots_expected: tuple[int, ...]
    slots_found: tuple[int, ...]
    confidence: tuple[float | None, ...]
    groups: tuple[str, ...] = ()


def _metrics_of_fields(fields: dict[str, Any]) -> dict[str, Measure | Estimate]:
    """The metrics of a report from before it had a map of them."""
    slots: SlotScore = fields["slots"]
    metrics = {name: fields[name] for name in RATES if fields[name] is not None}
    return {**metrics, "slot_f1": Estimate(value=slots.f1, low=slots.low, high=slots.high)}


class EvaluationReport(Value):
    """How well one artifact answers one test split."""

    artifact_digest: str
    test_fingerprint: str
    num_examples: int
    intent_accuracy: Measure
    parameter_accuracy: Measure
    exact_match: Measure
    parse_rate: Measure
    slots: SlotScore
    unknown_intent_rate: Measure | None
    """Answers with an intent that training never showed, where the catalogue was given."""
    out_of_scope_recall: Measure | None
    """None where the test has no such utterance."""
    out_of_scope_precision: Measure | None
    """None where no answer was `out_of_scope()`."""
    documents: DocumentsScore
    per_intent: tuple[IntentScore, ...]
    slices: tuple[SliceScore, ...]
    confusion: tuple[ConfusionCell, ...]
    failures: tuple[Failure, ...]
    outcomes: Outcomes
    latency: Latency | None
    abstention: Abstention | None
    risk_coverage: tuple[RiskPoint, ...]
    """By exact match, from the most confident answers to all; empty without confidences."""
    metrics: dict[str, Measure | Estimate] = Field(default_factory=_metrics_of_fields)
    """Every metric of `evaluation/metrics.py` that the test split defines."""

    @property
    def correct_ids(self) -> tuple[str, ...]:
        """The examples that were matched exactly."""
        return select_ids(self.outcomes.ids, self.outcomes.exact)


def select_ids(ids: Sequence[str], flags: str) -> tuple[str, ...]:
    """The ids whose flag is `1`."""
    return tuple(i for i, flag in zip(ids, flags, strict=True) if flag == "1")
