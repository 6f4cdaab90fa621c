"""Which utterance trains, which validates and which tests, now and for ever.

The split follows from a hash of the utterance's letters and digits, so an utterance never
changes sides, however the export grows: no model was trained on what tests a later one. Nor do
near-duplicates stand on two sides: a test row that has its like in training is left out, as it
would not test anything new, and so is such a validation row. Left out is not moved: should its
like leave the export, it is back where it was. A fixed test set stands as it is; there the
training rows that are like it are left out.

Stratified it is in expectation: each intent is cut by the same shares, and an intent that got
no test row is a finding of the data check.
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from intent_core.config import DataConfig
from intent_core.duplicates import find_near_duplicates, keep_distinct

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

# Of two near-duplicates on two sides, the one whose side comes later stays.
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


def normalise_utterance(utterance: str) -> str:
    """What two spellings of one utterance have in common: width, case and blanks are dropped."""
    folded = unicodedata.normalize("NFKC", utterance).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def hash_text(*parts: str) -> str:
    """Sixteen hex digits that name some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


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
    pairs = _find_pairs(list(sides), config.near_duplicate_similarity)
    left_out = _leave_out(pairs, sides, _FIXED_TEST if tested else _OWN_TEST)
    out = {one.utterance for one in left_out}
    placed = [utterance for utterance in utterances if utterance not in tested | out]
    splits = {name: [u for u in placed if sides[u] == name] for name in SPLITS}
    if config.near_duplicates == "drop":
        train = splits["train"]
        kept = keep_distinct(train, config.near_duplicate_similarity)
        splits["train"] = [train[index] for index in kept]
    alike = {text for first, second, _ in pairs for text in (first, second)}
    num_alike = sum(utterance in alike for name in SPLITS[:2] for utterance in splits[name])
    return Placement(splits, left_out, num_alike)


def _assign(utterance: str, test_fraction: float, config: DataConfig) -> SplitName:
    # Punctuation is not hashed: what differs in it alone stays together.
    letters = "".join(filter(str.isalnum, utterance)) or utterance
    seed = [str(config.split_seed)] if config.split_seed else []
    place = int(hash_text("split", *seed, letters), 16) / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + config.validation_fraction else "train"


def _find_pairs(texts: Sequence[str], similarity: float) -> list[tuple[str, str, float]]:
    if similarity == 1:
        return []
    found = find_near_duplicates(texts, similarity)
    return [(texts[pair.first], texts[pair.second], pair.similarity) for pair in found]


def _leave_out(
    pairs: Sequence[tuple[str, str, float]],
    sides: Mapping[str, SplitName],
    order: Sequence[SplitName],
) -> list[LeftOut]:
    straddling = []
    for pair in pairs:
        first, second, similarity = pair
        if sides[first] != sides[second]:
            goes, stays = sorted(pair[:2], key=lambda text: order.index(sides[text]))
            straddling.append((-order.index(sides[stays]), goes, stays, similarity))
    left_out: dict[str, LeftOut] = {}
    # What has left is nobody's like any more.
    for _, goes, stays, similarity in sorted(straddling):
        if goes not in left_out and stays not in left_out:
            left_out[goes] = LeftOut(goes, sides[goes], stays, sides[stays], similarity)
    return sorted(left_out.values())
