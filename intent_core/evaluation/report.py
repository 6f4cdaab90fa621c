"""The evaluation report, which the gate and the report page use."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from intent_core.recipe.choices import Normalisation

REPORT_VERSION = 3
"""Increase it when the same answers would give a different report: old ones are not reused."""

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
"""The metrics that are also fields of the report."""


class Value(BaseModel):
    """Base of the report's parts: immutable, unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Measure(Value):
    """A rate with its 95 % Wilson interval, widened where utterances share a source."""

    value: float
    low: float
    high: float
    successes: int
    total: int


class Estimate(Value):
    """A number with its 95 % interval that is not a fraction of utterances or answers."""

    value: float
    low: float
    high: float
    total: None = None


class IntentScore(Value):
    """The rates over the utterances whose label contains this intent."""

    intent: str
    support: int
    intent_accuracy: Measure
    parameter_accuracy: Measure
    exact_match: Measure


class SliceScore(Value):
    """The rates over the utterances of one slice, e.g. `intents=several` or `channel=phone`."""

    name: str
    value: str
    support: int
    intent_accuracy: Measure
    parameter_accuracy: Measure
    exact_match: Measure


class SlotScore(Value):
    """Slot scores, micro-averaged over (intent, position or name, value) of matched calls.

    `low` and `high` are the 95 % bootstrap interval of F1 over utterances (or their sources).
    """

    precision: float
    recall: float
    f1: float
    low: float
    high: float


class ConfusionCell(Value):
    """How often `predicted` was answered where `expected` was labelled; None means no call."""

    expected: str | None
    predicted: str | None
    count: int


class Failure(Value):
    """An example that was not matched exactly; `predicted` is the answer as text."""

    example_id: str
    instruction: str
    expected: str
    predicted: str
    reason: FailureReason


class NormalisedAnswer(Value):
    """An answer that is right, or in the labelled order, only because of these kinds.

    Each of the kinds is needed: the answer is less right without it.
    """

    example_id: str
    instruction: str
    expected: str
    predicted: str
    kinds: tuple[Normalisation, ...]


class DocumentsScore(Value):
    """The two metrics of the PAI guide's evaluation script; see `documents_score`."""

    intent_accuracy: float
    parameter_accuracy: float


class Latency(Value):
    """Latency percentiles in milliseconds (nearest rank) and the throughput."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    first_token_p50_ms: float | None = None
    first_token_p95_ms: float | None = None
    utterances_per_second: float | None = None


class RiskPoint(Value):
    """A point of the risk-coverage curve, over the answers with confidence >= `threshold`.

    `coverage` is their fraction of all answers, `risk` the fraction of them that is wrong.
    """

    threshold: float
    coverage: float
    risk: float


class Abstention(Value):
    """Answers less confident than `threshold` were read as `out_of_scope()`."""

    threshold: float
    num_abstained: int
    chosen_on: Literal["recipe", "validation"]


class Outcomes(Value):
    """Results of each example, in the order of the test split, for paired tests and resampling.

    The three strings contain `1` for right and `0` for wrong. `groups` contains the source of each
    example, and is empty when no two examples share one. `confidence` is None without an answer.
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
    """Return the metrics of a stored report that predates the `metrics` field."""
    slots: SlotScore = fields["slots"]
    metrics = {name: fields[name] for name in RATES if fields[name] is not None}
    return {**metrics, "slot_f1": Estimate(value=slots.f1, low=slots.low, high=slots.high)}


class EvaluationReport(Value):
    """The scores of one model on one test split."""

    artifact_digest: str
    test_fingerprint: str
    num_examples: int
    intent_accuracy: Measure
    parameter_accuracy: Measure
    exact_match: Measure
    parse_rate: Measure
    slots: SlotScore
    unknown_intent_rate: Measure | None
    """Rate of answers with an intent not seen in training; None without the intent schema."""
    out_of_scope_recall: Measure | None
    """None if the test split has no out-of-scope utterances."""
    out_of_scope_precision: Measure | None
    """None if no answer is `out_of_scope()`."""
    documents: DocumentsScore
    per_intent: tuple[IntentScore, ...]
    slices: tuple[SliceScore, ...]
    confusion: tuple[ConfusionCell, ...]
    failures: tuple[Failure, ...]
    normalised: Annotated[
        tuple[NormalisedAnswer, ...], Field(exclude_if=lambda answers: not answers)
    ] = ()
    """The answers that are right only because of `evaluate.normalise_values`."""
    outcomes: Outcomes
    latency: Latency | None
    abstention: Abstention | None
    risk_coverage: tuple[RiskPoint, ...]
    """By exact match, from the most confident answers to all; empty without confidences."""
    grounding: Annotated[str, Field(exclude_if=lambda sentence: not sentence)] = ""
    """A sentence on whether its answers were grounded, and why; "" if that is not known."""
    metrics: dict[str, Measure | Estimate] = Field(default_factory=_metrics_of_fields)
    """Every metric of `evaluation/metrics.py` that is defined for the test split."""

    @property
    def correct_ids(self) -> tuple[str, ...]:
        """The ids of the examples that were matched exactly."""
        return select_ids(self.outcomes.ids, self.outcomes.exact)

    @property
    def normalised_counts(self) -> dict[str, int]:
        """The number of answers that are right only because of a kind, the largest first."""
        counts = Counter(kind for answer in self.normalised for kind in answer.kinds)
        return dict(counts.most_common())


def select_ids(ids: Sequence[str], flags: str) -> tuple[str, ...]:
    """Return the ids whose flag is `1`."""
    return tuple(i for i, flag in zip(ids, flags, strict=True) if flag == "1")
