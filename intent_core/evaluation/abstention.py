"""Abstention: an answer with low confidence is read as `out_of_scope()`."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from intent_core.datasets.manifest import Example
from intent_core.evaluation.prediction import Prediction, match_predictions
from intent_core.evaluation.report import RiskPoint
from intent_core.evaluation.scoring import score_answer
from intent_core.language.calls import OUT_OF_SCOPE
from intent_core.recipe.config import EvaluateConfig

MOST_POINTS = 100


def apply_threshold(predictions: Sequence[Prediction], threshold: float) -> list[Prediction]:
    """Replace answers below the threshold, including those that do not parse, by `out_of_scope()`.

    Answers without a confidence are kept.
    """
    return [
        abstain(prediction) if is_below(prediction, threshold) else prediction
        for prediction in predictions
    ]


def is_below(prediction: Prediction, threshold: float) -> bool:
    """Whether the answer is known to be less confident than the threshold."""
    return prediction.confidence is not None and prediction.confidence < threshold


def abstain(prediction: Prediction) -> Prediction:
    """The prediction as if the model had answered `out_of_scope()`."""
    return prediction.model_copy(update={"text": f"{OUT_OF_SCOPE}()", "error": None})


def choose_threshold(
    examples: Sequence[Example], predictions: Sequence[Prediction], config: EvaluateConfig
) -> float:
    """Return the confidence threshold with the most exact matches on these examples.

    Candidates are the confidences of the answers and 1; an answer whose confidence equals the
    threshold is kept. Ties go to the lowest threshold.

    Args:
        examples: labelled examples of the validation split; a threshold chosen on the test split
            would overestimate the test scores.
        predictions: at most one prediction per example.
        config: how answers are compared with labels.

    Returns:
        A threshold from 0 to 1; 0 when abstaining does not help.

    Raises:
        DataError: `examples` is empty, or ids are repeated, or a prediction has an unknown id, or
            a label does not parse.
    """
    by_id = match_predictions(examples, predictions)
    gains: dict[float, int] = {}
    for example in examples:
        prediction = by_id.get(example.id)
        if prediction is None or prediction.confidence is None:
            continue
        before = score_answer(example, prediction, config).comparison.exact
        after = score_answer(example, abstain(prediction), config).comparison.exact
        gains[prediction.confidence] = gains.get(prediction.confidence, 0) + after - before
    best = most = gained = 0.0
    for confidence, following in pairwise([*sorted(gains), 1.0]):
        gained += gains[confidence]
        if gained > most and following > confidence:
            best, most = following, gained
    return best


def risk_coverage(
    confidences: Sequence[float], right: Sequence[bool] | npt.NDArray[np.bool_]
) -> tuple[RiskPoint, ...]:
    """Return the risk-coverage curve: the error rate among answers above each confidence.

    At most `MOST_POINTS` points, evenly spaced, from the most confident answers to all of them.
    Answers with equal confidence fall into the same point.
    """
    if not len(confidences):
        return ()
    values = np.asarray(confidences, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    wrong = np.cumsum(~np.asarray(right, dtype=np.bool_)[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    num_points = min(MOST_POINTS, len(ends))
    chosen = ends[[math.ceil(len(ends) * (n + 1) / num_points) - 1 for n in range(num_points)]]
    return tuple(
        RiskPoint(
            threshold=float(ranked[end]),
            coverage=float((end + 1) / len(ranked)),
            risk=float(wrong[end] / (end + 1)),
        )
        for end in chosen
    )
