"""Characters that print nothing: which are removed, and which carry meaning."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.invisible import (
    find_invisible,
    fold_invisible,
    fold_keys,
    list_invisible,
    strip_invisible,
)
from intent_core.language.utterances import normalise_utterance
from tests.support.builders.invisible import INVISIBLE

MEANINGFUL = [
    "❤️",
    "❤︎",
    "👩‍❤️‍👨",
    "🧑🏽‍🚀",
    "🏳️‍🌈",
    "🏴‍☠️",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "3️⃣",
    "می‌خواهم",
    "ه‍ ق",
    "क्‍ष",
    "র‍্যাব",
    "ක්‍ර",
    "葛\U000e0100城",
    "ᠠ\u180b",
]
MIXED = st.text(
    st.sampled_from([*INVISIBLE, *"".join(MEANINGFUL), *"a开9#*™①＃", "㊙", "\u2002"]), max_size=8
)


@pytest.mark.parametrize("character", INVISIBLE)
@pytest.mark.parametrize("text", ["开灯", "light", "U1"])
def test_each_is_removed_between_letters_and_at_the_ends(character: str, text: str) -> None:
    for position in range(len(text) + 1):
        typed = f"{text[:position]}{character}{text[position:]}"
        is_variant = character >= "\U000e0100" and text[max(position - 1, 0)] in "开灯"
        assert strip_invisible(typed) == (typed if is_variant and position else text)
        assert fold_invisible(typed) == text
        assert normalise_utterance(typed) == text.casefold()


@pytest.mark.parametrize("text", MEANINGFUL)
def test_what_changes_the_picture_is_kept(text: str) -> None:
    assert strip_invisible(text) == text
    assert list_invisible(text) == []
    assert strip_invisible(f"\u200b{text}\u2060 x") == f"{text} x"


@given(MIXED)
def test_removing_twice_changes_nothing_more(text: str) -> None:
    visible = strip_invisible(text)
    assert strip_invisible(visible) == visible
    assert sorted(visible + find_invisible(text)) == sorted(text)
    normalised = normalise_utterance(text)
    assert normalise_utterance(normalised) == normalised


@given(st.text())
def test_only_invisible_characters_are_removed(text: str) -> None:
    for character in find_invisible(text):
        assert character in INVISIBLE or unicodedata.category(character) in ("Cf", "Mn", "Cn")


def test_they_are_named_by_code_point() -> None:
    assert list_invisible("\u200ba\u2060\u200b") == [
        "U+200B ZERO WIDTH SPACE",
        "U+2060 WORD JOINER",
    ]


def test_keys_are_folded_unless_two_become_one() -> None:
    assert fold_keys({"\ufeffoutput": 1, "b": 2}) == {"output": 1, "b": 2}
    both = {"a": 1, "a\u200b": 2}
    assert fold_keys(both) == both
