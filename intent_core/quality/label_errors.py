"""Find likely label errors: rows that resemble the rows of another label more than their own.

An utterance is a vector of TF-IDF weights: words, pairs of words, and character n-grams. Each row
is compared (cosine) with the sum of the rows of each label, without itself, so that no row confirms
its own label. The margin is the similarity to another label minus that to the given label. A row is
suspicious if its margin to some label is large compared with chance. Chance gives larger margins if
the margins of the data have a larger spread, if the two labels have few rows, and if there are many
labels to choose from; the score divides the margin by the square root of the product of these. If
most rows have a high score, because utterances say little about their labels, more is required.

Only the margin between two labels counts, not how improbable the given label is among all: if a
near label was chosen by mistake, the given label is still more similar than most others.

Measured with `benchmarks/label_errors.py`: 5 % of the labels replaced by a random label, or by the
one that a classifier confuses most. Mean recall and precision of five seeds; the constants were
chosen on these sets, so the figures are optimistic for other data:

| data | rows, labels | random | most confused |
|---|---|---|---|
| SNIPS | 2200, 7 | 0.92, 0.94 | 0.84, 0.93 |
| CrossWOZ | 1436, 40 | 0.82, 0.80 | 0.23, 0.56 |
| CLINC | 2103, 151 | 0.80, 0.79 | 0.49, 0.66 |
| SNIPS, two requests in a row | 438, 30 | 0.45, 0.66 | 0.09, 0.24 |
| CrossWOZ, conversations | 317, 25 | 0.33, 0.36 | 0.05, 0.08 |

In CrossWOZ, "what is its phone number" has the domain of an earlier turn as label. An exchanged
domain cannot be found in such a row.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from intent_core.errors import DataError
from intent_core.quality.text_vectors import TextVectors

MIN_ROWS = 5
"""A label with fewer rows is not judged: they say too little about what the label means."""

_LEAST_SCORE = 0.4
_LEAST_DISTANCE = 0.5
"""From the median score, which is high if utterances say little about their labels."""
_RESIDUAL = 0.2
"""The part of the uncertainty that does not shrink with more rows."""
_LEAST_SPREAD = 1e-3

_Matrix = npt.NDArray[np.float64]
_Classes = npt.NDArray[np.int64]


class LabelSuspicion(NamedTuple):
    """One row (index from 0), its label, and the label that is more likely correct."""

    row: int
    given: str
    likely: str
    confidence: float
    """score / (1 + score), above 0.28 and below 1; for ranking, not a probability."""


def find_label_errors(utterances: Sequence[str], labels: Sequence[str]) -> list[LabelSuspicion]:
    """Return the rows whose label is probably wrong, the most suspicious first; deterministic.

    Labels with fewer than `MIN_ROWS` rows and empty utterances are ignored. With fewer than two
    remaining labels the result is empty.

    Args:
        utterances: unique utterances; a repeat would confirm its own label.
        labels: the label of each utterance.

    Raises:
        DataError: the numbers of utterances and labels differ.
    """
    if len(utterances) != len(labels):
        raise DataError(
            f"there are {len(utterances)} utterances but {len(labels)} labels: pass one label per "
            "utterance"
        )
    rows = _find_judgeable(utterances, labels)
    classes, given = np.unique([labels[row] for row in rows], return_inverse=True)
    if len(classes) < 2:
        return []
    scores = _score(_compare([utterances[row] for row in rows], given), given)
    likely = scores.argmax(axis=1)
    best = scores[np.arange(len(rows)), likely]
    least = max(_LEAST_SCORE, float(np.median(best)) + _LEAST_DISTANCE)
    suspicions = [
        LabelSuspicion(
            row=rows[place],
            given=str(classes[given[place]]),
            likely=str(classes[likely[place]]),
            confidence=float(best[place] / (1 + best[place])),
        )
        for place in np.flatnonzero(best > least)
    ]
    return sorted(suspicions, key=lambda suspicion: (-suspicion.confidence, suspicion.row))


def _find_judgeable(utterances: Sequence[str], labels: Sequence[str]) -> list[int]:
    rows = [row for row, utterance in enumerate(utterances) if utterance.strip()]
    counts = Counter(labels[row] for row in rows)
    return [row for row in rows if counts[labels[row]] >= MIN_ROWS]


def _compare(utterances: Sequence[str], given: _Classes) -> _Matrix:
    """Return the cosine of each row and the sum of each class's other rows: (rows, classes)."""
    from scipy.sparse import csr_array

    vectors = TextVectors(utterances)
    rows = np.arange(len(given))
    members = csr_array((np.ones(len(given)), (rows, given)))
    sums: Any = 0
    for some, start in vectors:
        sums += some.T @ members[start : start + some.shape[0]]
    sums = sums.tocsc()
    squares = np.asarray(sums.multiply(sums).sum(axis=0)).ravel()
    lengths = np.sqrt(np.maximum(squares, np.finfo(float).eps))
    cosines = np.empty((len(given), len(squares)))
    for some, start in vectors:
        its = slice(start, start + some.shape[0])
        cosines[its] = (some @ sums).toarray()
        own = cosines[rows[its], given[its]]
        of_row = np.asarray(some.multiply(some).sum(axis=1)).ravel()
        without = squares[given[its]] - 2 * own + of_row
        cosines[its] /= lengths
        cosines[rows[its], given[its]] = (own - of_row) / np.sqrt(
            np.maximum(without, np.finfo(float).eps)
        )
    return cosines


def _score(cosines: _Matrix, given: _Classes) -> _Matrix:
    """Return each margin to the given class, divided by what chance makes of it, in place."""
    rows = np.arange(len(given))
    cosines -= cosines[rows, given][:, np.newaxis]
    spread = max(_measure_spread(cosines, given), _LEAST_SPREAD)
    of_class = 1 / np.bincount(given)
    for c, its in enumerate(of_class):
        members = given == c
        uncertainty = _RESIDUAL + its + of_class
        cosines[members] /= np.sqrt(spread * np.log(len(of_class)) * uncertainty)
    cosines[rows, given] = -np.inf
    return cosines


def _measure_spread(margins: _Matrix, given: _Classes) -> float:
    """Return the standard deviation of margins from the mean of their class and other class."""
    classes = range(margins.shape[1])
    total = sum(float(margins[given == c].var(axis=0).sum() * (given == c).sum()) for c in classes)
    return float(np.sqrt(total / (len(margins) * (len(classes) - 1))))
