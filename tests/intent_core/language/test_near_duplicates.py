"""The near-duplicate search, compared with a brute-force search over all pairs."""

import json
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.errors import ConfigError
from intent_core.language import near_duplicates
from intent_core.language.near_duplicates import NearDuplicate, find_near_duplicates, keep_distinct
from intent_core.language.polite_words import strip_polite_words
from intent_core.language.utterances import normalise_utterance

DATA = Path(__file__).parents[2] / "data"


def read_utterances(name: str) -> list[str]:
    rows = json.loads((DATA / name / "train.json").read_text(encoding="utf-8"))
    return [normalise_utterance(row["instruction"]) for row in rows]


def grams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[i : i + n] for n in (2, 3) for i in range(len(padded) - n + 1)}


def compare_every_pair(texts: Sequence[str], similarity: float) -> list[NearDuplicate]:
    sets = [grams(strip_polite_words(text)) for text in texts]
    found = []
    for (i, one), (j, other) in combinations(enumerate(sets), 2):
        shared = len(one & other)
        measured = shared / (len(one) + len(other) - shared)
        if measured >= similarity:
            found.append(NearDuplicate(i, j, measured))
    return found


def keep_one_by_one(texts: Sequence[str], similarity: float) -> list[int]:
    near = {pair[:2] for pair in compare_every_pair(texts, similarity)}
    kept: list[int] = []
    for place in range(len(texts)):
        if not any((earlier, place) in near for earlier in kept):
            kept.append(place)
    return kept


def misspell(texts: Sequence[str], seed: int) -> list[str]:
    """Return the texts and a misspelled copy of each: one character dropped, doubled or swapped."""
    draw = random.Random(seed)
    changed = []
    for text in texts:
        at = draw.randrange(len(text) - 1)
        one, two = text[at], text[at + 1]
        changed.append(text[:at] + draw.choice([two, one + one + two, two + one]) + text[at + 2 :])
    return [*texts, *changed]


@pytest.mark.parametrize("similarity", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_finds_what_comparing_every_pair_finds(name: str, similarity: float) -> None:
    texts = misspell(read_utterances(name), seed=3)
    texts += texts[5:10]
    assert find_near_duplicates(texts, similarity) == compare_every_pair(texts, similarity)
    assert keep_distinct(texts, similarity) == keep_one_by_one(texts, similarity)


def test_finds_every_misspelling() -> None:
    texts = read_utterances("snips_en")
    pairs = {pair[:2] for pair in find_near_duplicates(misspell(texts, seed=4), 0.6)}
    assert {(place, place + len(texts)) for place in range(len(texts))} <= pairs


# Few letters give many shared grams; the long text is longer than every prefix.
ANY_TEXTS = st.lists(
    st.text(alphabet="ab 好的", max_size=12)
    | st.text(alphabet="ab", min_size=20, max_size=60)
    | st.text(max_size=5),
    max_size=12,
)


@given(texts=ANY_TEXTS, similarity=st.floats(0, 1, exclude_min=True))
def test_any_texts_at_any_similarity(texts: list[str], similarity: float) -> None:
    assert find_near_duplicates(texts, similarity) == compare_every_pair(texts, similarity)
    assert keep_distinct(texts, similarity) == keep_one_by_one(texts, similarity)


@given(texts=ANY_TEXTS, similarity=st.floats(0, 1, exclude_min=True))
def test_the_result_does_not_depend_on_how_many_are_read_at_once(
    texts: list[str], similarity: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, number in {
            "_ROWS_AT_ONCE": 2, "_ROWS_TO_TURN": 5, "_PAIRS_AT_ONCE": 3, "_TEXTS_AT_ONCE": 4
        }.items():  # fmt: skip
            patch.setattr(near_duplicates, name, number)
        assert find_near_duplicates(texts, similarity) == compare_every_pair(texts, similarity)


def test_a_long_text_has_more_shared_grams_than_a_byte_counts() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(70_000 // 2))
    (pair,) = find_near_duplicates([text, text + "x"], 0.9)
    assert pair.similarity > 0.99


@given(texts=ANY_TEXTS, share=st.fractions(0, 1, max_denominator=30).filter(bool))
def test_a_similarity_met_exactly_is_met(texts: list[str], share: Fraction) -> None:
    similarity = float(share)
    assert find_near_duplicates(texts, similarity) == compare_every_pair(texts, similarity)


@given(texts=ANY_TEXTS, similarity=st.floats(0.1, 1))
def test_pairs_are_ordered_and_the_kept_are_distinct(texts: list[str], similarity: float) -> None:
    pairs = find_near_duplicates(texts, similarity)
    assert pairs == sorted(pairs)
    assert all(first < second for first, second, _ in pairs)
    kept = keep_distinct(texts, similarity)
    assert kept == sorted(set(kept))
    assert not find_near_duplicates([texts[place] for place in kept], similarity)


def test_the_order_of_the_texts_decides_nothing_but_places() -> None:
    texts = misspell(read_utterances("crosswoz_zh"), seed=5)
    shuffled = random.Random(6).sample(range(len(texts)), len(texts))
    expected = find_near_duplicates(texts, 0.5)
    found = find_near_duplicates([texts[place] for place in shuffled], 0.5)
    renamed = [(sorted([shuffled[a], shuffled[b]]), similarity) for a, b, similarity in found]
    assert sorted(renamed) == [([a, b], similarity) for a, b, similarity in expected]


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("好的,谢谢", "好的,谢谢", 1),
        ("好的,谢谢", "好的,谢谢你", 9 / 15),
        ("播放爱情公寓", "请播放爱情公寓", 1),
        ("播放爱情公寓", "暂停爱情公寓", 7 / 19),
        ("play hello", "play yellow", 14 / 30),
        ("a", "a", 1),
        ("a", "b", 0),
        ("", "", 1),
        ("", "a", 0),
        # Different texts with the same grams.
        ("aaaa", "aaaaaa", 1),
    ],
)
def test_similarity(one: str, other: str, similarity: float) -> None:
    found = find_near_duplicates([one, other], 0.01)
    assert found == ([NearDuplicate(0, 1, similarity)] if similarity else [])


def test_identical_texts_at_similarity_1() -> None:
    texts = ["打开灯", "打开灯", "打开 灯", "打开灯"]
    assert [pair[:2] for pair in find_near_duplicates(texts, 1.0)] == [(0, 1), (0, 3), (1, 3)]
    assert keep_distinct(texts, 1.0) == [0, 2]


def test_the_earlier_one_stays_and_what_goes_takes_nothing_with_it() -> None:
    texts = ["turn the light on", "turn the lights on", "turn the lights on now"]
    assert [pair[:2] for pair in find_near_duplicates(texts, 0.7)] == [(0, 1), (1, 2)]
    assert keep_distinct(texts, 0.7) == [0, 2]


def test_a_text_repeated_thousands_of_times_costs_nothing() -> None:
    assert keep_distinct(["打开灯"] * 100_000 + ["关灯"], 0.8) == [0, 100_000]


def test_half_a_surrogate_pair_is_a_character() -> None:
    assert keep_distinct(["\ud83d好的谢谢", "\ud83d好的谢谢", "😀"], 0.8) == [0, 2]


@pytest.mark.parametrize("texts", [[], [""], ["好"], ["turn the light on"]])
def test_fewer_than_two_texts_have_no_pairs(texts: list[str]) -> None:
    assert find_near_duplicates(texts, 0.5) == []
    assert keep_distinct(texts, 0.5) == list(range(len(texts)))


@pytest.mark.parametrize("similarity", [0, -0.1, 1.01, float("nan")])
def test_a_similarity_out_of_range_is_refused(similarity: float) -> None:
    for search in (find_near_duplicates, keep_distinct):
        with pytest.raises(ConfigError, match="must be greater than 0 and at most 1"):
            search([], similarity)


def test_more_pairs_than_anyone_can_want_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MAX_PAIRS", 1000)
    alike = [f"please set the alarm for number {i}" for i in range(100)]
    assert len(find_near_duplicates(alike[:40], 0.8)) == 40 * 39 // 2
    with pytest.raises(ConfigError, match=r"few templates\. Raise data\.near_duplicate_similarity"):
        find_near_duplicates(alike, 0.8)
