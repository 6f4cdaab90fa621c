"""How often the values of each slot are right, with the slot's name where the vocabulary gives one.

The table adds up the report's failures and the labels of the test split, so that reports of earlier
versions have it, too. It changes no metric: those compare values by position or by a stated name.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from intent_core.evaluation.metrics import read_calls
from intent_core.evaluation.report import Measure
from intent_core.evaluation.statistics import wilson_interval
from intent_core.evaluation.value_normalization import normalise_value
from intent_core.language.calls import Call
from intent_core.language.slot_names import name_slots
from intent_core.language.vocabulary import Vocabulary
from intent_core.recipe.choices import Normalisation
from intent_core.reporting.review import Review


@dataclass(frozen=True)
class SlotRow:
    """The values of one slot: `weather_search.city`, or `weather_search[1]` without a name."""

    label: str
    recall: Measure | None
    """Fraction of the labelled values that were answered; None if no label has the slot."""
    precision: Measure | None
    """Fraction of the answered values that are right; None if no answer has the slot."""


def list_slots(review: Review) -> list[SlotRow]:
    """Return a row per slot of the test split and the answers, the weakest first.

    Args:
        review: the data of the report page.
    """
    answers = {failure.example_id: failure.predicted for failure in review.report.failures}
    kinds = review.config.evaluate.normalise_values
    labelled, answered, right = Counter[str](), Counter[str](), Counter[str]()
    for example_id, example in review.utterances.items():
        expected = _read_values(example.output, review.vocabulary, kinds)
        text = answers.get(example_id)
        given = expected if text is None else _read_values(text, review.vocabulary, kinds)
        for slot in expected.keys() | given.keys():
            labelled[slot] += expected[slot].total()
            answered[slot] += given[slot].total()
            right[slot] += (expected[slot] & given[slot]).total()
    rows = [
        SlotRow(slot, _measure(right[slot], labelled[slot]), _measure(right[slot], answered[slot]))
        for slot in labelled
    ]
    return sorted(rows, key=lambda row: (row.recall.high if row.recall else 1.0, row.label))


def _read_values(
    text: str, vocabulary: Vocabulary | None, kinds: tuple[Normalisation, ...]
) -> defaultdict[str, Counter[str]]:
    values: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for call in read_calls(text):
        slots = _name_values(call, vocabulary)
        for slot, argument in zip(slots, call.arguments, strict=True):
            values[slot][normalise_value(argument.value, kinds)] += 1
    return values


def _name_values(call: Call, vocabulary: Vocabulary | None) -> Iterator[str]:
    names = name_slots(call, vocabulary) if vocabulary else (a.name for a in call.arguments)
    position = 0
    for name in names:
        position += name is None
        yield f"{call.intent}[{position}]" if name is None else f"{call.intent}.{name}"


def _measure(successes: int, total: int) -> Measure | None:
    if not total:
        return None
    low, high = wilson_interval(successes, total)
    return Measure(value=successes / total, low=low, high=high, successes=successes, total=total)
