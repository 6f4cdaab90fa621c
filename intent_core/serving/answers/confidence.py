"""The confidence of an answer, the same in the evaluation and on the server."""

import math
from collections.abc import Sequence


def measure_confidence(logprobs: Sequence[float]) -> float | None:
    """Return the probability of an answer, 0 to 1; None if there are no log probabilities.

    Args:
        logprobs: natural log probability of each token of the answer.
    """
    total = sum(logprobs)
    return min(1.0, math.exp(total)) if logprobs and not math.isnan(total) else None
