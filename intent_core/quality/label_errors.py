"""Find likely label errors by cross-validation with a classifier (confident learning).

A linear model on character n-grams is trained on 80 % of the rows and predicts the other 20 %, five
times, so that no row is judged by a model that saw its label. The confidence of such a model in
correct labels differs between classes. Therefore each probability is divided by the class's
self-confidence: the mean probability of the class over the rows labelled with it. A row is
suspicious if the model prefers another label with at least 50 % of that label's self-confidence,
and has less than 8 % of the given label's self-confidence.

The paper requires 100 % of the other label's self-confidence. It is a mean, which many correct rows
of a class do not reach: 50 % finds many more errors (91 % instead of 65 % in 2200 English rows),
and the limit on the given label excludes the correct rows.

Source: Northcutt, Jiang, Chuang, "Confident learning" (2021).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from intent_core.errors import DataError

NUM_FOLDS = 5
"""A label with fewer rows is not judged, because it would be missing in one of the folds."""

_MIN_LIKELY_SHARE = 0.5
_MAX_GIVEN_SHARE = 0.08
_MIN_EPOCHS = 3
_MIN_STEPS = 20_000
"""Row updates that stochastic gradient descent needs to converge; few rows get more epochs."""
_MAX_GRAMS = 2**16
_SEED = 0

_Probabilities = npt.NDArray[np.float64]
_Classes = npt.NDArray[np.int64]


class LabelSuspicion(NamedTuple):
    """One row (index from 0), its label, and the label that is more likely correct."""

    row: int
    given: str
    likely: str
    confidence: float
    """1 minus the fraction of the given label's self-confidence, in (0.92, 1]."""


def find_label_errors(utterances: Sequence[str], labels: Sequence[str]) -> list[LabelSuspicion]:
    """Return the rows whose label is probably wrong, the most suspicious first; deterministic.

    Labels with fewer than `NUM_FOLDS` rows and empty utterances are ignored. With fewer than two
    remaining labels the result is empty.

    Args:
        utterances: unique utterances; a repeat would confirm its own label.
        labels: the label of each utterance.

    Raises:
        DataError: the numbers of utterances and labels differ.

    Source: see the module.
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
    probabilities = _predict_unseen([utterances[row] for row in rows], given)
    likely, likely_share, given_share = _measure(probabilities, given)
    suspicious = (likely != given) & (likely_share >= _MIN_LIKELY_SHARE)
    suspicious &= given_share < _MAX_GIVEN_SHARE
    suspicions = [
        LabelSuspicion(
            row=rows[place],
            given=str(classes[given[place]]),
            likely=str(classes[likely[place]]),
            confidence=float(1 - given_share[place]),
        )
        for place in np.flatnonzero(suspicious)
    ]
    return sorted(suspicions, key=lambda suspicion: (-suspicion.confidence, suspicion.row))


def _find_judgeable(utterances: Sequence[str], labels: Sequence[str]) -> list[int]:
    rows = [row for row, utterance in enumerate(utterances) if utterance.strip()]
    counts = Counter(labels[row] for row in rows)
    return [row for row in rows if counts[labels[row]] >= NUM_FOLDS]


def _predict_unseen(utterances: Sequence[str], given: _Classes) -> _Probabilities:
    """Return out-of-fold probabilities of shape (rows, classes)."""
    # scikit-learn takes seconds to import, and most commands do not need it.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import StratifiedKFold

    vectorizer = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(1, 4),
        min_df=2,
        max_features=_MAX_GRAMS,
        sublinear_tf=True,
    )
    features = vectorizer.fit_transform(utterances)
    probabilities = np.zeros((len(given), int(given.max()) + 1))
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=_SEED)
    for seen, unseen in folds.split(features, given):
        model = _create_model(len(seen)).fit(features[seen], given[seen])
        probabilities[unseen] = model.predict_proba(features[unseen])
    return probabilities


def _create_model(num_rows: int) -> Any:
    from sklearn.linear_model import SGDClassifier

    # As accurate as a converged logistic regression here, and many times faster with many classes.
    return SGDClassifier(
        loss="log_loss",
        alpha=1e-4,
        class_weight="balanced",
        max_iter=max(_MIN_EPOCHS, _MIN_STEPS // num_rows),
        tol=None,
        random_state=_SEED,
    )


def _measure(
    probabilities: _Probabilities, given: _Classes
) -> tuple[_Classes, _Probabilities, _Probabilities]:
    """Return the preferred class of each row, and the preferred and given class's shares.

    A share is the probability of a class divided by its self-confidence.
    """
    rows = np.arange(len(given))
    of_given = probabilities[rows, given]
    # Avoid division by zero for a class that the model never predicts.
    usual = np.maximum(
        np.bincount(given, weights=of_given) / np.bincount(given), np.finfo(float).tiny
    )
    likely = probabilities.argmax(axis=1)
    return likely, probabilities[rows, likely] / usual[likely], of_given / usual[given]
