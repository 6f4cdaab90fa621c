"""Selects utterances to label next: failures first, then the least confident answers."""

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
    """Select labelled utterances for which more similar utterances should be labelled.

    Wrong answers (as `evaluate` counts them) come first, in the given order, then right answers
    by increasing confidence; answers without a confidence come last.

    Args:
        examples: labelled examples.
        predictions: the model's answers to `examples`.
        limit: maximum number of utterances to return, 1 or more.
        similarity: near-duplicate threshold in (0, 1]; of near-duplicates only the first is
            returned.

    Raises:
        ConfigError: `limit` is below 1 or `similarity` is outside (0, 1].
        DataError: `examples` is empty, or ids are repeated, or a prediction has an unknown id.
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
    """Select unlabelled utterances, those with the least confident answers first.

    Answers that do not parse come before all others.

    Args:
        utterances: unlabelled utterances.
        predictions: the model's answers, in the order of `utterances`.
        limit: maximum number of utterances to return, 1 or more.
        similarity: near-duplicate threshold in (0, 1]; of near-duplicates only the first is
            returned.

    Raises:
        ConfigError: `limit` is below 1 or `similarity` is outside (0, 1].
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
