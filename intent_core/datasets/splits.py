"""Which utterance trains, which validates and which tests, now and for ever.

The split follows from a hash of the utterance's letters and digits, so an utterance never
changes sides, however the export grows: no model was trained on what tests a later one. Nor do
near-duplicates stand on two sides: a test row that has its like in training is left out, as it
would not test anything new, and so is a validation row that has its like in either. Left out is
not moved: should its like leave the export, it is back where it was. A fixed test set stands as
it is; there the training rows that are like it are left out.

Stratified it is in expectation: each intent is cut by the same shares, and an intent that got
no test row is a finding of the data check.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from intent_core.language.near_duplicates import iter_near_duplicates, keep_distinct
from intent_core.language.utterances import hash_text
from intent_core.recipe.config import DataConfig

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

# Of two near-duplicates on two sides, the one whose side stands later stays.
_OWN_TEST: tuple[SplitName, ...] = ("validation", "test", "train")
_FIXED_TEST: tuple[SplitName, ...] = ("validation", "train", "test")


class LeftOut(NamedTuple):
    """An utterance that is in no split, and its like in another split."""

    utterance: str
    split: SplitName
    """Where it would be."""
    like: str
    like_split: SplitName
    similarity: float


class Placement(NamedTuple):
    """Normalised utterances by split."""

    splits: dict[SplitName, list[str]]
    left_out: list[LeftOut]
    num_near_duplicates: int
    """Placed training and validation utterances that have a near-duplicate."""


def place_utterances(
    utterances: Sequence[str], config: DataConfig, external_test: Sequence[str] = ()
) -> Placement:
    """Place unique normalised utterances; those of an `external_test` test, and nothing else."""
    tested = set(external_test)
    sides: dict[str, SplitName] = dict.fromkeys(external_test, "test")
    test_fraction = 0.0 if tested else config.test_fraction
    for utterance in utterances:
        if utterance not in tested:
            sides[utterance] = _assign(utterance, test_fraction, config)
    order = _FIXED_TEST if tested else _OWN_TEST
    left_out, alike = _compare_sides(sides, order, config.near_duplicate_similarity)
    placed = [u for u in utterances if u not in tested and u not in left_out]
    splits = {name: [u for u in placed if sides[u] == name] for name in SPLITS}
    if config.near_duplicates == "drop":
        train = splits["train"]
        kept = keep_distinct(train, config.near_duplicate_similarity)
        splits["train"] = [train[index] for index in kept]
        alike -= set(train)
    num_alike = sum(utterance in alike for name in SPLITS[:2] for utterance in splits[name])
    return Placement(splits, sorted(left_out.values()), num_alike)


def _assign(utterance: str, test_fraction: float, config: DataConfig) -> SplitName:
    # Punctuation is not hashed: what differs in it alone stays together.
    letters = "".join(filter(str.isalnum, utterance)) or utterance
    seed = [str(config.split_seed)] if config.split_seed else []
    place = int(hash_text("split", *seed, letters), 16) / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + config.validation_fraction else "train"


def _compare_sides(
    sides: Mapping[str, SplitName], order: Sequence[SplitName], similarity: float
) -> tuple[dict[str, LeftOut], set[str]]:
    """The utterances that have their like on a side that outranks theirs, and those that have
    one on their own."""
    left_out: dict[str, LeftOut] = {}
    if similarity == 1:
        return left_out, set()
    texts = list(sides)
    ranks = np.array([order.index(sides[text]) for text in texts])
    has_like = np.zeros(len(texts), dtype=bool)
    for first, second, measured in iter_near_duplicates(texts, similarity):
        first_rank, second_rank = ranks[first], ranks[second]
        same = first_rank == second_rank
        has_like[first[same]] = has_like[second[same]] = True
        goes = np.where(first_rank < second_rank, first, second)[~same]
        stays = np.where(first_rank < second_rank, second, first)[~same]
        for place, like, how in zip(goes, stays, measured[~same], strict=True):
            text, other_text = texts[place], texts[like]
            if text not in left_out or left_out[text].similarity < how:
                left_out[text] = LeftOut(
                    text, sides[text], other_text, sides[other_text], float(how)
                )
    return left_out, {texts[place] for place in np.flatnonzero(has_like)}
