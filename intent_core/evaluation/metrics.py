"""What is measured of a model's answers, in one table that the gate, MLflow and the report read.

    intent_accuracy      the utterance's intents are right, in any order
    parameter_accuracy   and so are every call's arguments, by position or name
    exact_match          and so is the order of the calls
    slot_f1              micro F1 over (intent, position or name, value)
    parse_rate           the answer is a list of calls at all
    out_of_scope_*       whether the answer is `out_of_scope()` where it must be, and only there
    unknown_intent_rate  the answer has an intent that training never showed

`ordered_calls`, `normalise_values` and an example's alternatives make them stricter or milder.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from intent_core.errors import CallSyntaxError, ConfigError
from intent_core.evaluation.abstention import OUT_OF_SCOPE, is_out_of_scope
from intent_core.evaluation.report import Estimate, EvaluationReport, Measure, SlotScore, select_ids
from intent_core.evaluation.scoring import CallComparison, Calls
from intent_core.evaluation.slices import Flags, Rates, measure, measure_some
from intent_core.evaluation.statistics import f1_interval, number_groups
from intent_core.language.calls import parse_calls

NO_NUMBER = "not a number"


class ScoredExample(NamedTuple):
    """An example's calls, its answer's (None: it does not parse, or never came), and the rest."""

    gold: Calls
    answer: Calls | None
    comparison: CallComparison
    abstained: bool
    right_unabstained: bool
    """Whether the answer matched exactly before it was given up."""
    confidence: float | None
    documents: tuple[int, int]
    """What the documents' script counts: see `documents_score`."""


@dataclass(frozen=True)
class ScoredExamples:
    """A whole test split, scored; every metric is computed from it."""

    rows: Sequence[ScoredExample]
    groups: tuple[str, ...] = ()
    """Each example's source where some share one."""
    known_intents: frozenset[str] | None = None
    """Those that training showed; None where it is not known."""

    def flags(self, is_so: Callable[[ScoredExample], bool]) -> Flags:
        """One truth value an example."""
        return np.fromiter(map(is_so, self.rows), dtype=np.bool_)

    def share(self, is_so: Callable[[ScoredExample], bool]) -> Measure:
        """Of how many examples it is so."""
        return measure(self.flags(is_so), self.rates.groups)

    def share_of(self, chosen: Callable[[ScoredExample], bool]) -> Measure | None:
        """How many of the chosen have the right intents; None where none is chosen."""
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
        """With no slot expected and none answered, nothing is wrong; with one, none is right."""
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
    """How one number is computed, named and explained."""

    name: str
    label: str
    explanation: str
    compute: Callable[[ScoredExamples], Measure | Estimate | None]
    """None where the examples do not define it."""
    culprits: Callable[[EvaluationReport], tuple[str, ...]]
    """Ids of the examples that the metric lost on, as far as the report tells."""
    higher_is_better: bool = True
    undefined: str = NO_NUMBER
    """Why a report has no value of it."""


def compute_metrics(scored: ScoredExamples) -> dict[str, Measure | Estimate]:
    """Every metric that the examples define, by name."""
    values = {name: metric.compute(scored) for name, metric in METRICS.items()}
    return {name: value for name, value in values.items() if value is not None}


def list_requirable() -> list[str]:
    """The metrics that a recipe may give a minimum."""
    return sorted(name for name, metric in METRICS.items() if metric.higher_is_better)


def require_metrics(names: Iterable[str]) -> None:
    """`ConfigError` that lists the metrics there are, for a name that may not have a minimum."""
    allowed = list_requirable()
    wrong = [name for name in names if name not in allowed]
    if wrong:
        raise ConfigError(
            f"gate.minimums: no such metric: {', '.join(map(repr, wrong))}. Allowed: "
            f"{', '.join(allowed)}"
        )


def _measure_slots(scored: ScoredExamples) -> Estimate:
    return Estimate(value=scored.slots.f1, low=scored.slots.low, high=scored.slots.high)


def _measure_unknown(scored: ScoredExamples) -> Measure | None:
    known = scored.known_intents
    if known is None:
        return None
    return scored.share(lambda row: any(call.intent not in known for call in row.answer or ()))


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
    """The calls of a label or an answer; none where it does not parse."""
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
            "the intents are right, in any order",
            lambda scored: measure(scored.rates.intents_right, scored.rates.groups),
            _wrong_intents,
        ),
        Metric(
            "parameter_accuracy",
            "Parameter accuracy",
            "and so are all values",
            lambda scored: measure(scored.rates.parameters_right, scored.rates.groups),
            _wrong_parameters,
        ),
        Metric(
            "exact_match",
            "Exact match",
            "and so is the order of the calls",
            lambda scored: measure(scored.rates.exact, scored.rates.groups),
            _wrong_calls,
        ),
        Metric(
            "slot_f1",
            "Slot F1",
            "values found, and found values right",
            _measure_slots,
            _wrong_parameters,
        ),
        Metric(
            "parse_rate",
            "Parse rate",
            "the answer is a list of calls at all",
            lambda scored: scored.share(lambda row: row.answer is not None),
            _unread,
        ),
        Metric(
            "out_of_scope_recall",
            "Out-of-scope recall",
            "of these utterances, so answered",
            lambda scored: scored.share_of(lambda row: is_out_of_scope(row.gold)),
            _missed_out_of_scope,
            undefined="no utterance of the test is out of scope",
        ),
        Metric(
            "out_of_scope_precision",
            "Out-of-scope precision",
            "of these answers, rightly so",
            lambda scored: scored.share_of(lambda row: is_out_of_scope(row.answer or ())),
            _false_out_of_scope,
            undefined=f"no answer was {OUT_OF_SCOPE}()",
        ),
        Metric(
            "unknown_intent_rate",
            "Unknown intents",
            "an intent never trained",
            _measure_unknown,
            _wrong_intents,
            higher_is_better=False,
            undefined="the intents of the training were not given",
        ),
    )
}
"""In the order they are shown. A new metric is an entry here: nothing else lists them.

Reports that earlier runs finished have no value of it until `REPORT_VERSION` goes up.
"""
