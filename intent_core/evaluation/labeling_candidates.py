"""What to label next: where a model fails, and where it is least sure."""

import math
from collections.abc import Sequence

from intent_core.datasets.manifest import Example
from intent_core.errors import ConfigError
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import Prediction
from intent_core.language.near_duplicates import keep_distinct
from intent_core.language.utterances import normalise_utterance


def choose_for_labelling(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    limit: int,
    similarity: float = 0.8,
) -> list[str]:
    """At most `limit` utterances whose like is worth labelling next, no two of them alike.

    First what the model got wrong, as `evaluate` counts it, in the given order; then its right
    answers, the least certain first and those without a confidence last.

    `ConfigError` for a limit below 1 or a similarity outside (0, 1], `DataError` when examples
    and predictions do not belong together.
    """
    correct = set(evaluate(examples, predictions).correct_ids)
    certainty = {p.example_id: _rank(p) for p in predictions}
    wrong = [example for example in examples if example.id not in correct]
    right = sorted(
        (example for example in examples if example.id in correct),
        key=lambda example: certainty[example.id],
    )
    return _take_distinct([e.instruction for e in wrong + right], limit, similarity)


def choose_least_certain(
    utterances: Sequence[str],
    predictions: Sequence[Prediction],
    limit: int,
    similarity: float = 0.8,
) -> list[str]:
    """At most `limit` unlabelled utterances, the least certain answers first, no two alike.

    An answer that is no call comes before all others. `predictions` are in the utterances'
    order. `ConfigError` as `choose_for_labelling`.
    """
    pairs = zip(utterances, predictions, strict=True)
    ranked = sorted(pairs, key=lambda pair: (pair[1].error is None, _rank(pair[1])))
    return _take_distinct([utterance for utterance, _ in ranked], limit, similarity)


def _rank(prediction: Prediction) -> float:
    return math.inf if prediction.confidence is None else prediction.confidence


def _take_distinct(ranked: Sequence[str], limit: int, similarity: float) -> list[str]:
    if limit < 1:
        raise ConfigError(f"limit must be at least 1, not {limit}")
    kept = keep_distinct([normalise_utterance(text) for text in ranked], similarity)
    return [ranked[index] for index in kept[:limit]]
