from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.vocabulary import Vocabulary
from intent_core.reporting.vocabulary_changes import describe_changes

CITY = {"name": "city", "type": "one_of", "values": {"杭州": ["杭州市"], "上海": []}}
DATE = {"name": "date", "description": "when"}
WEATHER = {"description": "the weather", "slots": [CITY, DATE]}


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return describe_changes(Vocabulary(intents=old), Vocabulary(intents=new))


def weather(city: dict[str, Any], **entry: Any) -> dict[str, Any]:
    return {"weather": {**WEATHER, "slots": [{**CITY, **city}, DATE], **entry}}


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({"weather": WEATHER}, []),
        ({"weather": WEATHER, "greet": {}}, ["intent added: greet"]),
        ({"greet": {}, "part": {}}, ["intents added: greet, part", "intent removed: weather"]),
        ({"forecast": WEATHER}, ["intent renamed: weather is now forecast"]),
        (weather({}, description="x"), ["weather: description changed"]),
        (weather({}, order="fixed"), ["weather: order fixed instead of appearance"]),
        (weather({}, slots=[CITY]), ["weather: slot removed: date"]),
        (weather({"name": "town"}), ["weather: slot renamed: city is now town"]),
        (weather({}, slots=[DATE, CITY]), ["weather: other order of the slots: date, city"]),
        (weather({"type": "text"}), ["weather.city: type text instead of one_of"]),
        (weather({"examples": ["x"]}), ["weather.city: examples changed"]),
        (
            weather({"values": ["杭州", "北京"]}),
            [
                "weather.city: value added: 北京",
                "weather.city: value removed: 上海",
                "weather.city: other synonyms of 杭州",
            ],
        ),
        (
            weather({"values": [f"v{i}" for i in range(7)]}),
            [
                "weather.city: values added: v0, v1, v2, v3, v4 and 2 more",
                "weather.city: values removed: 杭州, 上海",
            ],
        ),
    ],
)
def test_each_kind_of_change_is_named(new: dict[str, Any], said: list[str]) -> None:
    assert compare({"weather": WEATHER}, new) == said


def test_what_could_have_been_renamed_in_two_ways_was_not() -> None:
    twins = compare({"a": WEATHER}, {"b": WEATHER, "c": WEATHER})
    assert twins == ["intents added: b, c", "intent removed: a"]
    assert compare({"a": {}}, {"b": {}}) == ["intent added: b", "intent removed: a"]


names = st.sampled_from("abcd")
slots = st.lists(
    st.fixed_dictionaries(
        {"name": names, "type": st.sampled_from(["text", "date"]), "description": st.text()}
    ),
    unique_by=lambda slot: slot["name"],
)
entries = st.fixed_dictionaries({"description": st.text(max_size=2), "slots": slots})
vocabularies = st.dictionaries(names, entries, min_size=1)


@given(vocabularies, vocabularies)
def test_only_equal_vocabularies_have_no_changes(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert compare(old, old) == []
    equal = Vocabulary(intents=old) == Vocabulary(intents=new)
    assert (compare(old, new) == []) == equal
