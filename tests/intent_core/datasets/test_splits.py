"""Splits: an utterance keeps its split, and near-duplicates are never in different splits."""

import json
from pathlib import Path

import pytest

from intent_core.errors import DataError
from intent_core.language.near_duplicates import find_near_duplicates
from intent_core.language.utterances import normalise_utterance
from tests.support.builders.records import build, many, real_records, record, say, utterances


def test_an_utterance_keeps_its_split_as_the_export_grows(tmp_path: Path) -> None:
    small, grown = build(tmp_path / "1", many(150)), build(tmp_path / "2", many(300))
    for name in ("train", "validation", "test"):
        assert utterances(tmp_path / "1", name) < utterances(tmp_path / "2", name)
    assert small.fingerprint != grown.fingerprint
    assert small.test_fingerprint != grown.test_fingerprint


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_near_duplicates_never_stand_on_two_sides(tmp_path: Path, name: str) -> None:
    records = real_records(name)
    # Every tenth utterance is repeated with an extra word.
    likes = [record(f"{r.utterance} ok", r.output, 1000 + i) for i, r in enumerate(records[::10])]
    fractions = {"test_fraction": 0.3, "validation_fraction": 0.2}
    manifest = build(tmp_path, [*records, *likes], **fractions)
    sides = {
        normalise_utterance(text): name
        for name in ("train", "validation", "test")
        for text in utterances(tmp_path, name)
    }
    texts = list(sides)
    for pair in find_near_duplicates(texts, 0.8):
        assert sides[texts[pair.first]] == sides[texts[pair.second]]
    left_out = [
        json.loads(line) for line in (tmp_path / "left_out.jsonl").read_bytes().splitlines()
    ]
    assert len(left_out) == manifest.num_left_out > 5
    assert len(sides) + len(left_out) == len(records) + len(likes)
    for one in left_out:
        assert one["records"][0]["line"]
        assert (one["split"], one["like_split"]) in {
            ("test", "train"),
            ("validation", "test"),
            ("validation", "train"),
        }


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_no_model_was_trained_on_a_later_test_row(tmp_path: Path, name: str) -> None:
    records = real_records(name)
    trained: set[str] = set()
    for month, count in enumerate((50, 100, 150, 200)):
        build(tmp_path / str(month), records[:count], test_fraction=0.3)
        assert not trained & utterances(tmp_path / str(month), "test")
        # An utterance of the training split stays in it.
        assert trained < utterances(tmp_path / str(month), "train")
        trained = utterances(tmp_path / str(month), "train")


def test_training_rows_like_a_fixed_test_are_left_out(tmp_path: Path) -> None:
    like = f"{say(3)} please"
    manifest = build(tmp_path, many(100), [record(like, "z()")])
    assert utterances(tmp_path, "test") == {like}
    left = utterances(tmp_path, "train") | utterances(tmp_path, "validation")
    assert left == {say(i) for i in range(100)} - {say(3)}
    (line,) = (tmp_path / "left_out.jsonl").read_bytes().splitlines()
    assert (json.loads(line)["like"], json.loads(line)["reason"]) == (like, "near-duplicate")
    assert manifest.num_left_out == 1


def test_an_utterance_that_differs_in_punctuation_is_on_the_same_side(tmp_path: Path) -> None:
    build(tmp_path, [*many(200), *(record(f"{say(i)}!?", index=500 + i) for i in range(200))])
    for name in ("train", "validation", "test"):
        found = utterances(tmp_path, name)
        assert {text.rstrip("!?") for text in found} == {
            text for text in found if not text.endswith("!?")
        }


def test_another_seed_is_another_split(tmp_path: Path) -> None:
    build(tmp_path / "0", many(300))
    build(tmp_path / "1", many(300), split_seed=1)
    assert utterances(tmp_path / "0", "test") != utterances(tmp_path / "1", "test")


def test_near_duplicates_may_be_dropped_from_training(tmp_path: Path) -> None:
    extra = [record(f"please play some jazz music now {i}", index=900 + i) for i in range(10)]
    kept = build(tmp_path / "1", [*many(100), *extra], near_duplicate_similarity=0.6)
    dropped = build(
        tmp_path / "2",
        [*many(100), *extra],
        near_duplicate_similarity=0.6,
        near_duplicates="drop",
    )
    assert dropped.test_fingerprint == kept.test_fingerprint
    trained = utterances(tmp_path / "2", "train")
    assert sum("jazz" in text for text in trained) <= 1
    assert dropped.num_near_duplicates < kept.num_near_duplicates


def test_an_export_of_one_template_says_what_to_do(tmp_path: Path) -> None:
    alike = [record(f"please set the alarm for number {i}", index=i) for i in range(100, 400)]
    with pytest.raises(DataError, match=r"left out .* raise data\.near_duplicate_similarity"):
        build(tmp_path, alike, near_duplicate_similarity=0.5)
    manifest = build(tmp_path, alike, near_duplicate_similarity=1.0)
    assert manifest.num_left_out == 0
