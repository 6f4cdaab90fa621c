"""The evaluation metrics, in one table that the gate, MLflow and the report page use.

    intent_accuracy      all intents are right, in any order
    parameter_accuracy   intents and all values are right, by position or name
    exact_match          calls, values and the order of the calls are right
    slot_f1              micro F1 over (intent, position or name, value)
    parse_rate           the answer is a list of calls
    out_of_scope_*       recall and precision of `out_of_scope()`
    unknown_intent_rate  the answer contains an intent that is not in the training data

`ordered_calls` makes the comparison stricter; `normalise_values` and the alternatives of an
example make it more lenient.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from intent_core.errors import CallSyntaxError, ConfigError
from intent_core.evaluation.report import Estimate, EvaluationReport, Measure, SlotScore, select_ids
from intent_core.evaluation.scoring import CallComparison, Calls
from intent_core.evaluation.slices import Flags, Rates, measure, measure_some
from intent_core.evaluation.statistics import f1_interval, number_groups
from intent_core.language.calls import OUT_OF_SCOPE, is_out_of_scope, parse_calls
from intent_core.recipe.choices import Normalisation

NO_NUMBER = "not a number"


class ScoredExample(NamedTuple):
    """The labelled calls, the answered calls (None: unparsable or missing) and their scores."""

    gold: Calls
    answer: Calls | None
    comparison: CallComparison
    kinds: tuple[Normalisation, ...]
    """Kinds of normalisation without which the answer would be less right."""
    abstained: bool
    right_unabstained: bool
    """Whether the answer matched exactly before abstention."""
    confidence: float | None
    documents: tuple[int, int]
    """Scores of the PAI guide's evaluation script; see `documents_score`."""


@dataclass(frozen=True)
class ScoredExamples:
    """All scored examples of a test split; every metric is computed from it."""

    rows: Sequence[ScoredExample]
    groups: tuple[str, ...] = ()
    """The source of each example; empty when no two examples share a source."""
    known_intents: frozenset[str] | None = None
    """Intents seen in training; None if unknown."""

    def flags(self, is_so: Callable[[ScoredExample], bool]) -> Flags:
        """Return the predicate's value for each example."""
        return np.fromiter(map(is_so, self.rows), dtype=np.bool_)

    def share(self, is_so: Callable[[ScoredExample], bool]) -> Measure:
        """Return the fraction of examples for which the predicate is true."""
        return measure(self.flags(is_so), self.rates.groups)

    def share_of(self, chosen: Callable[[ScoredExample], bool]) -> Measure | None:
        """Return the intent accuracy over the chosen examples; None if none is chosen."""
        return measure_some(self.rates.intents_right, self.flags(chosen), self.rates.groups)

    @cached_property
    def rates(self) -> Rates:
        return Rates(
            self.flags(lambda row: row.comparison.intents_right),
            self.flags(lambda row: row.comparison.parameters_right),
            self.flags(lambda row: row.comparison.exact),
            number_groups(self.groups, len(self.rows)),
        )

    @cached_property
    def slots(self) -> SlotScore:
        """The slot scores; 1 when no slot is expected and none is found, as nothing is wrong."""
        comparisons = [row.comparison for row in self.rows]
        columns = (
            [c.slot_hits for c in comparisons],
            [c.slots_expected for c in comparisons],
            [c.slots_found for c in comparisons],
        )
        hits, expected, answered = map(sum, columns)
        low, high = f1_interval(*columns, self.groups)
        nothing = 0.0 if expected + answered else 1.0
        return SlotScore(
            precision=hits / answered if answered else nothing,
            recall=hits / expected if expected else nothing,
            f1=2 * hits / (expected + answered) if expected + answered else nothing,
            low=low,
            high=high,
        )


@dataclass(frozen=True)
class Metric:
    """A metric: its name, label, explanation and computation."""

    name: str
    label: str
    explanation: str
    compute: Callable[[ScoredExamples], Measure | Estimate | None]
    """Returns None if the metric is undefined for the examples."""
    culprits: Callable[[EvaluationReport], tuple[str, ...]]
    """Returns the ids of the examples that lower the metric, as far as the report lists them."""
    higher_is_better: bool = True
    undefined: str = NO_NUMBER
    """Why a report does not have a value."""


def compute_metrics(scored: ScoredExamples) -> dict[str, Measure | Estimate]:
    """Return every metric that is defined for the examples, by name."""
    values = {name: metric.compute(scored) for name, metric in METRICS.items()}
    return {name: value for name, value in values.items() if value is not None}


def list_requirable() -> list[str]:
    """Return the names of the metrics for which a recipe can set a minimum."""
    return sorted(name for name, metric in METRICS.items() if metric.higher_is_better)


def require_metrics(names: Iterable[str]) -> None:
    """Check that a recipe can set a minimum for each of the metrics.

    Args:
        names: metric names from `gate.minimums`.

    Raises:
        ConfigError: a name is unknown or its metric cannot have a minimum; the message lists the
            allowed names.
    """
    allowed = list_requirable()
    wrong = [name for name in names if name not in allowed]
    if wrong:
        raise ConfigError(
            f"gate.minimums: unknown metric: {', '.join(map(repr, wrong))}. Allowed: "
            f"{', '.join(allowed)}"
        )


def _measure_slots(scored: ScoredExamples) -> Estimate:
    return Estimate(value=scored.slots.f1, low=scored.slots.low, high=scored.slots.high)


def _measure_unknown(scored: ScoredExamples) -> Measure | None:
    if scored.known_intents is None:
        return None
    known = frozenset(map(_compose, scored.known_intents))
    return scored.share(
        lambda row: any(_compose(call.intent) not in known for call in row.answer or ())
    )


def _compose(intent: str) -> str:
    return unicodedata.normalize("NFC", intent)


def _wrong_intents(report: EvaluationReport) -> tuple[str, ...]:
    return _wrong(report.outcomes.ids, report.outcomes.intents_right)


def _wrong_parameters(report: EvaluationReport) -> tuple[str, ...]:
    return _wrong(report.outcomes.ids, report.outcomes.parameters_right)


def _wrong_calls(report: EvaluationReport) -> tuple[str, ...]:
    return _wrong(report.outcomes.ids, report.outcomes.exact)


def _unread(report: EvaluationReport) -> tuple[str, ...]:
    unread = ("malformed", "missing_prediction")
    return tuple(f.example_id for f in report.failures if f.reason in unread)


def _missed_out_of_scope(report: EvaluationReport) -> tuple[str, ...]:
    missed = {f.example_id for f in report.failures if is_out_of_scope(read_calls(f.expected))}
    return tuple(i for i in _wrong_intents(report) if i in missed)


def _false_out_of_scope(report: EvaluationReport) -> tuple[str, ...]:
    false = {f.example_id for f in report.failures if is_out_of_scope(read_calls(f.predicted))}
    return tuple(i for i in _wrong_intents(report) if i in false)


def _wrong(ids: Sequence[str], flags: str) -> tuple[str, ...]:
    right = set(select_ids(ids, flags))
    return tuple(i for i in ids if i not in right)


def read_calls(text: str) -> Calls:
    """Return the calls of a label or an answer; () if it does not parse.

    Args:
        text: a label or an answer, such as `weather_search(Hangzhou)`.
    """
    try:
        return parse_calls(text)
    except CallSyntaxError:
        return ()


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "intent_accuracy",
            "Intent accuracy",
            "all intents are right, in any order",
            lambda scored: measure(scored.rates.intents_right, scored.rates.groups),
            _wrong_intents,
        ),
        Metric(
            "parameter_accuracy",
            "Parameter accuracy",
            "intents and all values are right",
            lambda scored: measure(scored.rates.parameters_right, scored.rates.groups),
            _wrong_parameters,
        ),
        Metric(
            "exact_match",
            "Exact match",
            "intents, values and order of the calls are right",
            lambda scored: measure(scored.rates.exact, scored.rates.groups),
            _wrong_calls,
        ),
        Metric(
            "slot_f1",
            "Slot F1",
            "harmonic mean of slot precision and recall",
            _measure_slots,
            _wrong_parameters,
        ),
        Metric(
            "parse_rate",
            "Parse rate",
            "the answer parses as calls",
            lambda scored: scored.share(lambda row: row.answer is not None),
            _unread,
        ),
        Metric(
            "out_of_scope_recall",
            "Out-of-scope recall",
            "out-of-scope utterances that were answered as such",
            lambda scored: scored.share_of(lambda row: is_out_of_scope(row.gold)),
            _missed_out_of_scope,
            undefined="the test split has no out-of-scope utterances",
        ),
        Metric(
            "out_of_scope_precision",
            "Out-of-scope precision",
            "out-of-scope answers that are right",
            lambda scored: scored.share_of(lambda row: is_out_of_scope(row.answer or ())),
            _false_out_of_scope,
            undefined=f"no answer was {OUT_OF_SCOPE}()",
        ),
        Metric(
            "unknown_intent_rate",
            "Unknown intents",
            "answers with an intent not in the training data",
            _measure_unknown,
            _wrong_intents,
            higher_is_better=False,
            undefined="the intents of the training data are not available",
        ),
    )
}
"""All metrics, in display order. To add a metric, add an entry here; there is no other list.

Reports of finished runs get a value for it only when `REPORT_VERSION` is increased.
"""
