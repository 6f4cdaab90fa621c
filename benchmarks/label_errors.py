"""Replace some labels on purpose, and measure how many of them the data check finds.

    python benchmarks/label_errors.py [--quick] [--share SHARE] [FILE]...

Each FILE contains labelled utterances in the format of the pipeline's training JSON, or any other
that `intent convert` writes; default: the two sets of the tests. Of the rows whose label occurs
often enough to be judged, a share (5 %) gets another label:

- random: any other label
- confused: the label to which a classifier, trained on other rows, gives the most probability
- similar: the label whose rows have the most similar n-grams on average

Prints recall and precision of the reported rows, and recall in the longest start of the list that
is at least half right; each is the mean of five seeds, with `--quick` of one. The labels of the
files have errors of their own, which count as wrong reports. The last line is one JSON object.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from duration import announce_duration
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import normalize

from intent_core.language.calls import parse_calls
from intent_core.quality.label_errors import MIN_ROWS, LabelSuspicion, find_label_errors

DATA = Path(__file__).parents[1] / "tests" / "data"
FILES = [DATA / name / "train.json" for name in ("snips_en", "crosswoz_zh")]


class Rows(NamedTuple):
    """Utterances and labels; every label has at least `MIN_ROWS` rows."""

    utterances: list[str]
    labels: list[str]


def read_rows(file: Path) -> Rows:
    labels = {
        row["instruction"]: ";".join(sorted({call.intent for call in parse_calls(row["output"])}))
        for row in json.loads(file.read_text(encoding="utf-8"))
    }
    counts = Counter(labels.values())
    kept = {text: label for text, label in labels.items() if counts[label] >= MIN_ROWS}
    return Rows(list(kept), list(kept.values()))


def choose_near(rows: Rows) -> dict[str, dict[str, str]]:
    """Return the near label of each label, by both definitions."""
    names, given = np.unique(rows.labels, return_inverse=True)
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=2).fit_transform(
        rows.utterances
    )
    classifier = SGDClassifier(loss="log_loss", alpha=3e-5, random_state=0)
    probabilities = cross_val_predict(classifier, vectors, given, method="predict_proba")
    means = [np.asarray(vectors[given == c].mean(axis=0)) for c in range(len(names))]
    centers = normalize(np.vstack(means))
    nearness = {
        "confused": np.vstack([probabilities[given == c].mean(axis=0) for c in range(len(names))]),
        "similar": centers @ centers.T,
    }
    return {kind: _take_nearest(names, matrix) for kind, matrix in nearness.items()}


def _take_nearest(names: np.ndarray, matrix: np.ndarray) -> dict[str, str]:
    np.fill_diagonal(matrix, -1)
    return {str(name): str(names[matrix[c].argmax()]) for c, name in enumerate(names)}


def replace(
    labels: Sequence[str], near: dict[str, str] | None, share: float, seed: int
) -> tuple[list[str], set[int]]:
    """Return the labels with a share replaced, and the places of those."""
    draw = random.Random(seed)
    wrong = set(draw.sample(range(len(labels)), round(share * len(labels))))
    names = sorted(set(labels))
    replaced = list(labels)
    for place in sorted(wrong):
        label = labels[place]
        others = [name for name in names if name != label]
        replaced[place] = draw.choice(others) if near is None else near[label]
    return replaced, wrong


def rate(suspicions: Sequence[LabelSuspicion], wrong: set[int]) -> tuple[float, float, float]:
    """Return recall, precision, and recall where half of the list is right."""
    hits = np.cumsum([s.row in wrong for s in suspicions])
    if not len(hits):
        return 0.0, 0.0, 0.0
    half_right = hits[hits / np.arange(1, len(hits) + 1) >= 0.5]
    return (
        float(hits[-1] / len(wrong)),
        float(hits[-1] / len(hits)),
        float(half_right.max(initial=0) / len(wrong)),
    )


def measure(file: Path, share: float, num_seeds: int) -> dict[str, float]:
    rows = read_rows(file)
    name = file.parent.name
    print(f"{name}: {len(rows.labels)} rows, {len(set(rows.labels))} labels")
    figures = {f"{name}.unchanged": float(len(find_label_errors(*rows)))}
    print(f"  unchanged: {figures[f'{name}.unchanged']:.0f} rows reported")
    for kind, near in {"random": None, **choose_near(rows)}.items():
        rates = []
        for seed in range(num_seeds):
            labels, wrong = replace(rows.labels, near, share, seed)
            rates.append(rate(find_label_errors(rows.utterances, labels), wrong))
        recall, precision, half_right = np.mean(rates, axis=0)
        print(f"  {kind}: recall {recall:.2f}, precision {precision:.2f}", end="")
        print(f", F1 {2 * recall * precision / max(recall + precision, 1e-9):.2f}", end="")
        print(f"; recall where half is right {half_right:.2f}")
        figures |= {f"{name}.{kind}.recall": recall, f"{name}.{kind}.precision": precision}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, default=FILES)
    parser.add_argument("--share", type=float, default=0.05, help="share of replaced labels")
    parser.add_argument("--quick", action="store_true", help="use one seed")
    options = parser.parse_args()
    num_seeds = 1 if options.quick else 5
    announce_duration(10 * len(options.files) * num_seeds)
    figures: dict[str, float] = {}
    for file in options.files:
        figures |= measure(file, options.share, num_seeds)
    print(json.dumps({key: round(value, 2) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
