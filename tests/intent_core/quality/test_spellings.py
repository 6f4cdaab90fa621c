"""Names that look alike: intents, and the values of an intent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.quality.spellings import count_slips, find_alike
from tests.intent_core.quality.conftest import CheckRows


@pytest.mark.parametrize(
    "name",
    ["Play_Music", "play-music", "playMusic", "play music", "ｐｌａｙ_music", "Output:play_music",
     "意图：play_music", "play_musci", "play_muusic", "pley_music", "play_musi", "lpay_musci",
     "play.music", "PLAY__MUSIC"],
)  # fmt: skip
def test_a_misspelt_intent(name: str) -> None:
    ((found, likely, *_),) = find_alike({"play_music": 60, name: 2, "stop": 9})
    assert (found, likely) == (name, "play_music")


@pytest.mark.parametrize(
    "names",
    [("turn_on", "turn_off"), ("volume_up", "volume_down"), ("intent_1", "intent_12"),
     ("ask", "asks"), ("查询天气", "查询天地"), ("出发地", "目的地"), ("play_music", "play_movie")],
)  # fmt: skip
def test_intents_that_differ(names: tuple[str, str]) -> None:
    assert list(find_alike({names[0]: 60, names[1]: 1})) == []


def test_two_frequent_intents_are_two() -> None:
    assert list(find_alike({"play_music": 60, "play_musics": 40})) == []
    ((name, *_),) = find_alike({"play_music": 60, "Play_Music": 40})
    assert name == "Play_Music", "capitals alone do not make another intent"


@pytest.mark.parametrize(
    ("value", "likely"),
    [("高档", "高档型"), ("高档 型", "高档型"), ("Deezr", "Deezer"), ("4.5分 以上", "4.5分以上"),
     ("ＷｉＦｉ", "WiFi")],
)  # fmt: skip
def test_two_spellings_of_a_value(value: str, likely: str) -> None:
    ((found, other, *_),) = find_alike({likely: 20, value: 1, "x": 5}, are_values=True)
    assert (found, other) == (value, likely)


@pytest.mark.parametrize(
    "values",
    [("免费", "不免费"), ("100", "1000"), ("4.5", "45"), ("track", "tracks"), ("北京", "南京"),
     ("3号线", "5号线"), ("a1", "a2"), ("on", "off"), ("-5", "5")],
)  # fmt: skip
def test_values_that_differ(values: tuple[str, str]) -> None:
    assert list(find_alike({values[0]: 20, values[1]: 1}, are_values=True)) == []


def test_words_of_the_utterance_are_no_spellings(check_rows: CheckRows) -> None:
    rows = [(f"wake me at Midnight {n}", "wake(Midnight)") for n in range(9)]
    assert "value-spellings" not in check_rows(*rows, ("wake me at midnight", "wake(midnight)"))
    (row,) = check_rows(*rows, ("wake me at Midnight ok", "wake(midnight)"))["value-spellings"]
    assert (row["value"], row["likely"], row["line"]) == ("midnight", "Midnight", 10)


@given(st.text("ab好", max_size=6), st.text("ab好", max_size=6))
def test_slips_are_a_distance(first: str, second: str) -> None:
    slips = count_slips(first, second)
    assert slips == count_slips(second, first)
    assert (slips == 0) is (first == second)
    assert abs(len(first) - len(second)) <= slips <= max(len(first), len(second))


@given(st.text("abcdefgh", min_size=8, max_size=12), st.data())
def test_any_one_slip_in_a_long_name_is_found(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from("xyz"))
    slips = [name[:place] + name[place + 1 :], name[:place] + letter + name[place:],
             name[:place] + letter + name[place + 1 :]]  # fmt: skip
    for slip in slips:
        assert [pair.likely for pair in find_alike({name: 50, slip: 1})] == [name]
