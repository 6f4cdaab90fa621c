"""Assign utterances to the training, validation and test splits, stable over time.

The split depends on a hash of the utterance's letters and digits, so an utterance never changes its
split when the export grows: no model is trained on the test rows of a later model. Near-duplicates
are never in two splits. A test row with a near-duplicate in training is left out, because it would
not test anything new; so is a validation row with a near-duplicate in either. Such a row is left
out, not moved: if its near-duplicate disappears from the export, it returns to its split. A fixed
test set is never changed; its near-duplicates are left out of the other splits.

With `data.group_by` a hash of the group (a dialogue, a speaker) decides instead, so a group is in
one split, also when it grows. An utterance that several groups say is placed once: in training if
one of them is in training, otherwise in test. To join such groups into one would put nearly all
dialogues into one split (all say `好的`), and could move test rows to training later. Utterances
that only groups of a fixed test set say are left out. A row without a group is its own.

The splits are stratified in expectation only: the fractions apply to each intent, but an intent can
get no test row, which the data check reports.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from intent_core.exports.records import Record
from intent_core.language.near_duplicates import iter_near_duplicates, keep_distinct
from intent_core.language.utterances import hash_text, normalise_utterance
from intent_core.recipe.config import DataConfig

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

NO_GROUPS: Mapping[str, str] = MappingProxyType({})

# Of two near-duplicates in different splits, the one in the later split of this order is kept.
_OWN_TEST: tuple[SplitName, ...] = ("validation", "test", "train")
_FIXED_TEST: tuple[SplitName, ...] = ("validation", "train", "test")


class LeftOut(NamedTuple):
    """An utterance that was left out, and the one in another split that is the reason."""

    utterance: str
    split: SplitName
    """The split that it would be in."""
    reason: Literal["near-duplicate", "group"]
    like: str
    """The near-duplicate, or an utterance of the same group."""
    like_split: SplitName
    similarity: float | None
    """None if the reason is the group."""


class Placement(NamedTuple):
    """Normalised utterances by split, and those left out."""

    splits: dict[SplitName, list[str]]
    left_out: list[LeftOut]
    alike: dict[str, str]
    """The utterances in the training and validation splits that have a near-duplicate there, each
    with one of them."""


def place_utterances(
    utterances: Sequence[str],
    config: DataConfig,
    external_test: Sequence[str] = (),
    groups: Mapping[str, str] = NO_GROUPS,
    tested_groups: Mapping[str, str] = NO_GROUPS,
) -> Placement:
    """Assign unique normalised utterances to splits.

    With an `external_test`, the test split of the result is empty, and the utterances of the
    external test set are removed from the other splits. `groups` has the group of an utterance, and
    `tested_groups` an utterance of each group of the external test set.
    """
    tested = set(external_test)
    sides: dict[str, SplitName] = dict.fromkeys(external_test, "test")
    left_out: dict[str, LeftOut] = {}
    for utterance in utterances:
        if utterance in tested:
            continue
        group = groups.get(utterance, "")
        side = _assign(utterance, group, config, is_fixed=bool(tested))
        if group in tested_groups:
            like = tested_groups[group]
            left_out[utterance] = LeftOut(utterance, side, "group", like, "test", None)
        else:
            sides[utterance] = side
    order = _FIXED_TEST if tested else _OWN_TEST
    near, alike = _compare_sides(sides, order, config.near_duplicate_similarity)
    left_out |= near
    placed = [u for u in utterances if u not in tested and u not in left_out]
    splits = {name: [u for u in placed if sides[u] == name] for name in SPLITS}
    if config.near_duplicates == "drop":
        train = splits["train"]
        distinct = keep_distinct(train, config.near_duplicate_similarity)
        splits["train"] = [train[index] for index in distinct]
        for text in train:
            alike.pop(text, None)
    kept = {u: alike[u] for name in SPLITS[:2] for u in splits[name] if u in alike}
    return Placement(splits, sorted(left_out.values()), kept)


def find_one_split(
    records: Sequence[Record], config: DataConfig, tested_groups: Mapping[str, str] | None
) -> list[int]:
    """Return the indices of those records of one utterance whose groups are in its split.

    `tested_groups` are those of a fixed test set; None without one.
    """
    order = _OWN_TEST if tested_groups is None else _FIXED_TEST

    def rank(record: Record) -> int:
        if tested_groups and record.group in tested_groups:
            return -1
        text = normalise_utterance(record.utterance)
        return order.index(_assign(text, record.group, config, is_fixed=tested_groups is not None))

    ranks = [rank(record) for record in records]
    best = max(ranks)
    return [place for place, rank_of in enumerate(ranks) if rank_of == best]


def _assign(utterance: str, group: str, config: DataConfig, *, is_fixed: bool) -> SplitName:
    # Do not hash punctuation, so that utterances that differ only in it get the same split.
    letters = "".join(filter(str.isalnum, utterance)) or utterance
    seed = [str(config.split_seed)] if config.split_seed else []
    named = ["group", group] if group else [letters]
    place = int(hash_text("split", *seed, *named), 16) / 2**64
    test_fraction = 0.0 if is_fixed else config.test_fraction
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + config.validation_fraction else "train"


def _compare_sides(
    sides: Mapping[str, SplitName], order: Sequence[SplitName], similarity: float
) -> tuple[dict[str, LeftOut], dict[str, str]]:
    """Return the utterances to leave out, and near-duplicates within a split."""
    left_out: dict[str, LeftOut] = {}
    if similarity == 1:
        return left_out, {}
    texts = list(sides)
    ranks = np.array([order.index(sides[text]) for text in texts])
    likes = np.full(len(texts), -1)
    for first, second, measured in iter_near_duplicates(texts, similarity):
        first_rank, second_rank = ranks[first], ranks[second]
        same = first_rank == second_rank
        likes[first[same]], likes[second[same]] = second[same], first[same]
        goes = np.where(first_rank < second_rank, first, second)[~same]
        stays = np.where(first_rank < second_rank, second, first)[~same]
        for place, like, how in zip(goes, stays, measured[~same], strict=True):
            text, other_text = texts[place], texts[like]
            if text not in left_out or (left_out[text].similarity or 0) < how:
                split, like_split = sides[text], sides[other_text]
                left_out[text] = LeftOut(
                    text, split, "near-duplicate", other_text, like_split, float(how)
                )
    return left_out, {texts[place]: texts[likes[place]] for place in np.flatnonzero(likes >= 0)}
