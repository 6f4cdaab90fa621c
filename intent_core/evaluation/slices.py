"""Computes the rates over parts of a test split: by intent, by slice and by tag.

    intents    one, several     number of calls in the label
    slots      none, some       whether the label has values
    length     short, medium, long: up to 8, up to 20, more characters of a Chinese utterance;
               up to 5, up to 12, more words in other languages
    language   zh, en, other    Chinese characters and no kana; ASCII letters only; the rest

A tag with one of these names replaces the computed slice. Only the most frequent values of a tag
are reported.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from intent_core.datasets.manifest import Example
from intent_core.evaluation.report import IntentScore, Measure, SliceScore
from intent_core.evaluation.statistics import IntArray, clustered_interval

MOST_VALUES = 50
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3041-\u30ff\uff66-\uff9f]")
_LENGTHS = {"zh": (8, 20), "en": (5, 12), "other": (5, 12)}

Flags = npt.NDArray[np.bool_]
Rows = dict[tuple[str, str], list[int]]


class Rates(NamedTuple):
    """The results of each example, and the number of its source if examples share sources."""

    intents_right: Flags
    parameters_right: Flags
    exact: Flags
    groups: IntArray | None


def measure(outcomes: Flags, groups: IntArray | None) -> Measure:
    """Return a rate with its 95 % interval."""
    successes, total = int(outcomes.sum()), len(outcomes)
    low, high = clustered_interval(outcomes, groups)
    return Measure(value=successes / total, low=low, high=high, successes=successes, total=total)


def measure_some(outcomes: Flags, chosen: Flags, groups: IntArray | None) -> Measure | None:
    """Return the rate over the chosen examples; None if none is chosen."""
    if not chosen.any():
        return None
    return measure(outcomes[chosen], None if groups is None else groups[chosen])


def score_intents(intents: Iterable[Sequence[str]], rates: Rates) -> tuple[IntentScore, ...]:
    """Return the rates by intent, over the utterances whose label contains it."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, labelled in enumerate(intents):
        for intent in set(labelled):
            rows[intent].append(row)
    return tuple(
        IntentScore(intent=intent, support=len(chosen), **_measures(rates, chosen))
        for intent, chosen in sorted(rows.items())
    )


def score_slices(
    examples: Sequence[Example], labels: Iterable[tuple[int, bool]], rates: Rates
) -> tuple[SliceScore, ...]:
    """Return the rates by slice and by tag; `labels` are (number of calls, has values)."""
    kinds: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    tagged: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (example, label) in enumerate(zip(examples, labels, strict=True)):
        for kind in _kinds(example.instruction, *label):
            kinds[kind].append(row)
        for tag in example.tags.items():
            tagged[tag].append(row)
    tags = {name for name, _ in tagged}
    shown = {kind: chosen for kind, chosen in sorted(kinds.items()) if kind[0] not in tags}
    return tuple(
        SliceScore(name=name, value=value, support=len(chosen), **_measures(rates, chosen))
        for (name, value), chosen in (shown | _most_frequent(tagged)).items()
    )


def guess_language(utterance: str) -> str:
    """Return `zh`, `en` or `other`, judged by the script only."""
    if _HAN.search(utterance):
        return "other" if _KANA.search(utterance) else "zh"
    letters = "".join(filter(str.isalpha, utterance))
    return "en" if letters and letters.isascii() else "other"


def classify_length(utterance: str, language: str) -> str:
    """Return `short`, `medium` or `long`: by characters in Chinese, else by words."""
    short, medium = _LENGTHS[language]
    words = utterance.split()
    length = sum(map(len, words)) if language == "zh" else len(words)
    return "short" if length <= short else "medium" if length <= medium else "long"


def _kinds(utterance: str, num_calls: int, has_slots: bool) -> tuple[tuple[str, str], ...]:
    language = guess_language(utterance)
    return (
        ("intents", "several" if num_calls > 1 else "one"),
        ("slots", "some" if has_slots else "none"),
        ("length", classify_length(utterance, language)),
        ("language", language),
    )


def _most_frequent(tagged: Rows) -> Rows:
    """Return at most `MOST_VALUES` values per tag, the most frequent first."""
    ranked = sorted(tagged.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1]))
    shown: Counter[str] = Counter()
    kept: Rows = {}
    for (name, value), chosen in ranked:
        shown[name] += 1
        if shown[name] <= MOST_VALUES:
            kept[name, value] = chosen
    return kept


def _measures(rates: Rates, chosen: list[int]) -> dict[str, Measure]:
    rows = np.array(chosen)
    groups = None if rates.groups is None else rates.groups[rows]
    return {
        "intent_accuracy": measure(rates.intents_right[rows], groups),
        "parameter_accuracy": measure(rates.parameters_right[rows], groups),
        "exact_match": measure(rates.exact[rows], groups),
    }
