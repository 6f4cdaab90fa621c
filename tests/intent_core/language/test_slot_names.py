"""A value has a slot's name only where one reading is possible, never by its place alone."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.calls import Argument, Call, parse_calls
from intent_core.language.slot_names import name_slots
from intent_core.language.vocabulary import Vocabulary

DATA = Path(__file__).parents[2] / "data"

CITY = {"name": "city", "type": "one_of", "values": {"Hangzhou": ["HZ", "杭州"], "Beijing": []}}
ORIGIN = {"name": "origin", "type": "one_of", "values": ["Beijing", "Malaga"]}
DAY = {"name": "day", "type": "date"}
GUESTS = {"name": "guests", "type": "number"}
SONG = {"name": "song"}
SIZE = {"name": "size", "type": "one_of", "values": ["3", "big"]}


def name(label: str, *slots: dict[str, Any], order: str = "appearance") -> list[str | None]:
    entry = {"slots": slots, "order": order}
    return list(name_slots(parse_calls(label)[0], Vocabulary(intents={"f": entry})))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("label", "slots", "names"),
    [
        ("f(Hangzhou,tomorrow)", [CITY, DAY], ["city", "day"]),
        ("f(tomorrow,Hangzhou)", [CITY, DAY], ["day", "city"]),
        ("f(杭州,下周一)", [DAY, CITY], ["city", "day"]),
        ("f(HZ)", [CITY, DAY], ["city"]),
        ("f(May 5,三)", [GUESTS, DAY], ["day", "guests"]),
        ("f(4,Hangzhou,周五)", [CITY, DAY, GUESTS], ["guests", "city", "day"]),
        ("f()", [CITY], []),
        ("f(Hangzhuo,tomorrow)", [CITY, DAY], [None, "day"]),
        ("f(Malaga)", [CITY, ORIGIN], ["origin"]),
    ],
)
def test_a_closed_list_or_a_type_names_a_value(
    label: str, slots: list[dict[str, Any]], names: list[str | None]
) -> None:
    assert name(label, *slots) == names


@pytest.mark.parametrize(
    ("label", "slots", "reason"),
    [
        ("f(Hangzhou,Hello)", [CITY, SONG], "a song may be called Hangzhou"),
        ("f(Hello)", [SONG], "a text slot is no evidence"),
        ("f(Beijing)", [CITY, ORIGIN], "both lists have it"),
        ("f(Beijing,Malaga)", [CITY, ORIGIN], "two values may be in origin"),
        ("f(Hangzhou,Beijing)", [CITY], "two values, one slot"),
        ("f(Hangzhou,HZ)", [CITY], "two spellings, one slot"),
        ("f(3)", [GUESTS, SIZE], "a number that the list has"),
        ("f(３)", [SIZE, GUESTS], "the same in full width"),
        ("f(2015)", [GUESTS, DAY], "a number and a year"),
        ("f(十一)", [GUESTS, DAY], "eleven, and 1 October"),
        ("f(3号)", [GUESTS, DAY], "the third, and number 3"),
        ("f(hangzhou)", [CITY], "not as the list writes it"),
        ("f(Shanghai)", [CITY], "not in the list"),
        ("f(3 people)", [GUESTS], "more than a number"),
        ("g(Hangzhou)", [CITY], "an unknown intent"),
        ("f(Hangzhou)", [], "no slots"),
        ("f(city=Hangzhou,Beijing)", [CITY], None),
    ],
)
def test_without_one_reading_a_value_stays_positional(
    label: str, slots: list[dict[str, Any]], reason: str | None
) -> None:
    stated = [argument.name for argument in parse_calls(label)[0].arguments]
    assert name(label, *slots) == stated, reason


def test_a_name_in_the_label_is_kept_and_its_slot_is_taken() -> None:
    assert name("f(origin=Beijing,Beijing)", CITY, ORIGIN) == ["origin", "city"]
    assert name("f(colour=red,Hangzhou)", CITY) == ["colour", "city"]
    assert name("g(city=Hangzhou)", CITY) == ["city"]


def test_a_fixed_order_names_by_place_if_the_counts_match() -> None:
    assert name("f(a,b)", SONG, CITY, order="fixed") == ["song", "city"]
    assert name("f(a)", SONG, CITY, order="fixed") == [None]
    assert name("f(a,b,c)", SONG, CITY, order="fixed") == [None, None, None]
    assert name("f(a,city=b)", SONG, CITY, order="fixed") == ["song", "city"]
    assert name("f(city=a,b)", SONG, CITY, order="fixed") == ["city", None]
    assert name("f(tomorrow)", CITY, DAY, order="fixed") == ["day"]
    assert name("f(a,b)", SONG, CITY) == [None, None]


values = st.sampled_from(["Hangzhou", "杭州", "Beijing", "tomorrow", "3", "2015", "big", "x", ""])
slots = st.lists(
    st.sampled_from([CITY, ORIGIN, DAY, GUESTS, SONG, SIZE]), unique_by=lambda slot: slot["name"]
)


@given(st.lists(values, max_size=4), slots)
def test_the_name_of_a_value_does_not_depend_on_its_place(
    texts: list[str], chosen: list[dict[str, Any]]
) -> None:
    vocabulary = Vocabulary(intents={"f": {"slots": chosen}})  # type: ignore[dict-item]

    def pair(order: tuple[str, ...]) -> list[tuple[str, str | None]]:
        call = Call(intent="f", arguments=tuple(Argument(value=text) for text in order))
        return sorted(zip(order, name_slots(call, vocabulary), strict=True), key=repr)

    for order in permutations(texts):
        assert pair(order) == pair(tuple(texts))


def read_labels(source: str) -> list[tuple[Call, ...]]:
    rows = json.loads((DATA / source / "train.json").read_text(encoding="utf-8"))
    return [parse_calls(row["output"]) for row in rows]


@pytest.mark.parametrize("source", ["crosswoz_zh", "snips_en"])
def test_no_value_of_the_shared_sets_is_named_by_its_place(source: str) -> None:
    calls = [call for label in read_labels(source) for call in label]
    most = {call.intent: 0 for call in calls}
    for call in calls:
        most[call.intent] = max(most[call.intent], len(call.arguments))
    assert max(most.values()) >= 4
    intents = {
        intent: {"slots": [{"name": f"slot_{i}"} for i in range(count)]}
        for intent, count in most.items()
    }
    vocabulary = Vocabulary(intents=intents)  # type: ignore[arg-type]
    assert not any(any(name_slots(call, vocabulary)) for call in calls)
