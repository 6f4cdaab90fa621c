"""Detection of label errors, measured on real rows with some labels replaced."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from intent_core.errors import DataError
from intent_core.quality.label_errors import MIN_ROWS, find_label_errors

DATA = Path(__file__).parents[2] / "data"
NUM_DRAWS = 10
NUM_WRONG = 6


def read_rows(name: str) -> tuple[list[str], list[str]]:
    rows = json.loads((DATA / name / "train.json").read_text(encoding="utf-8"))
    return [row["instruction"] for row in rows], [row["output"].split("(")[0] for row in rows]


def exchange(labels: list[str], seed: int) -> tuple[list[str], set[int]]:
    """Return the labels with `NUM_WRONG` of them (5 %) replaced by a random other label."""
    draw = random.Random(seed)
    wrong = set(draw.sample(range(len(labels)), NUM_WRONG))
    names = sorted(set(labels))
    return [
        draw.choice([name for name in names if name != label]) if row in wrong else label
        for row, label in enumerate(labels)
    ], wrong


class Measured(NamedTuple):
    recall: float
    precision: float
    in_front: float
    """Precision at k, where k is the number of wrong rows."""


def measure(name: str) -> Measured:
    utterances, labels = read_rows(name)
    num_found = num_suspicions = num_in_front = 0
    for seed in range(NUM_DRAWS):
        given, wrong = exchange(labels, seed)
        suspicions = [suspicion.row for suspicion in find_label_errors(utterances, given)]
        num_suspicions += len(suspicions)
        num_found += len(wrong & set(suspicions))
        num_in_front += len(wrong & set(suspicions[:NUM_WRONG]))
    num_wrong = NUM_DRAWS * NUM_WRONG
    return Measured(num_found / num_wrong, num_found / num_suspicions, num_in_front / num_wrong)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("snips_en", Measured(0.8, 0.75, 0.75)),
        # Only ten rows per intent, and "what is its phone number" fits a hotel and a restaurant.
        ("crosswoz_zh", Measured(0.65, 0.5, 0.6)),
    ],
)
def test_finds_most_exchanged_labels_and_little_else(name: str, least: Measured) -> None:
    measured = measure(name)
    assert measured.recall >= least.recall, measured
    assert measured.precision >= least.precision, measured
    assert measured.in_front >= least.in_front, measured


@pytest.mark.parametrize(("name", "most"), [("snips_en", 2), ("crosswoz_zh", 6)])
def test_few_rows_are_suspicious_as_they_are(name: str, most: int) -> None:
    assert len(find_label_errors(*read_rows(name))) <= most


NEAR = {
    "add_to_playlist": "play_music",
    "play_music": "add_to_playlist",
    "search_creative_work": "search_screening_event",
    "search_screening_event": "search_creative_work",
    "rate_book": "search_creative_work",
}


def test_finds_labels_replaced_by_a_near_one() -> None:
    utterances, labels = read_rows("snips_en")
    near = [row for row, label in enumerate(labels) if label in NEAR]
    num_wrong = num_found = num_suspicions = 0
    for seed in range(NUM_DRAWS):
        wrong = set(random.Random(seed).sample(near, 2 * NUM_WRONG))
        given = [NEAR[label] if row in wrong else label for row, label in enumerate(labels)]
        suspicions = {suspicion.row for suspicion in find_label_errors(utterances, given)}
        num_wrong += len(wrong)
        num_found += len(wrong & suspicions)
        num_suspicions += len(suspicions)
    assert num_found >= 0.5 * num_wrong, num_found / num_wrong
    assert num_found >= 0.8 * num_suspicions, num_found / num_suspicions


def test_names_the_right_label() -> None:
    utterances, labels = read_rows("snips_en")
    given, wrong = exchange(labels, seed=1)
    suspicions = [s for s in find_label_errors(utterances, given) if s.row in wrong]
    assert suspicions
    assert [s.given for s in suspicions] == [given[s.row] for s in suspicions]
    right = sum(s.likely == labels[s.row] for s in suspicions)
    assert right >= 0.8 * len(suspicions)


def test_the_most_suspicious_come_first() -> None:
    utterances, labels = read_rows("snips_en")
    given, _ = exchange(labels, seed=2)
    confidences = [s.confidence for s in find_label_errors(utterances, given)]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0.28 < confidence < 1 for confidence in confidences)


def test_the_same_rows_give_the_same_list() -> None:
    utterances, labels = read_rows("crosswoz_zh")
    given, _ = exchange(labels, seed=3)
    assert find_label_errors(utterances, given) == find_label_errors(utterances, given)


def test_a_rare_label_is_neither_given_nor_likely() -> None:
    utterances, labels = read_rows("snips_en")
    kept = [row for row, label in enumerate(labels) if label != "get_weather"]
    weather = [row for row, label in enumerate(labels) if label == "get_weather"]
    rows = kept + weather[: MIN_ROWS - 1]
    # For a mislabelled row of the rare label, no likely label can be found.
    given = ["rate_book" if row == weather[0] else labels[row] for row in rows]
    named = {
        name
        for s in find_label_errors([utterances[row] for row in rows], given)
        for name in (s.given, s.likely)
    }
    assert "get_weather" not in named


BOOKS = [f"rate the book number {n}" for n in range(MIN_ROWS)]
SONGS = [f"play song {n} by queen" for n in range(MIN_ROWS)]


@pytest.mark.parametrize(
    ("utterances", "labels"),
    [
        ([], []),
        (["play"], ["play_music"]),
        (BOOKS + SONGS[1:], ["rate"] * MIN_ROWS + ["play"] * (MIN_ROWS - 1)),
        (BOOKS, ["rate"] * MIN_ROWS),
        (BOOKS + [" "] * MIN_ROWS, ["rate"] * MIN_ROWS + ["play"] * MIN_ROWS),
        ([" "] * 2 * MIN_ROWS, ["rate", "play"] * MIN_ROWS),
    ],
    ids=["nothing", "one-row", "too-few-rows", "one-label", "blank-label", "only-blanks"],
)
def test_nothing_is_suspicious_where_nothing_can_be_judged(
    utterances: list[str], labels: list[str]
) -> None:
    assert find_label_errors(utterances, labels) == []


def test_just_enough_rows_are_judged() -> None:
    labels = ["rate"] * MIN_ROWS + ["play"] * MIN_ROWS
    assert find_label_errors(BOOKS + SONGS, labels) == []
    (found,) = find_label_errors([*BOOKS, *SONGS, "play song 9 by queen"], [*labels, "rate"])
    assert (found.row, found.given, found.likely) == (2 * MIN_ROWS, "rate", "play")


def test_utterances_that_say_nothing_of_their_labels_are_not_suspicious() -> None:
    assert find_label_errors(["打开灯"] * 40, ["on", "off"] * 20) == []


def test_utterances_and_labels_must_match() -> None:
    with pytest.raises(DataError, match="2 utterances but 1 labels"):
        find_label_errors(["play", "stop"], ["play_music"])


def test_importing_the_module_does_not_import_scikit_learn() -> None:
    program = "import sys, intent_core.quality.label_errors; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
