"""A first vocabulary from labels: what they say, and what is guessed and marked."""

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.calls import Argument, Call, parse_calls
from intent_core.language.slot_names import name_slots
from intent_core.quality.guess_vocabulary import Guess, guess_vocabulary
from intent_core.recipe.vocabulary_file import read_vocabulary
from intent_core.recipe.vocabulary_text import render_vocabulary

DATA = Path(__file__).parents[2] / "data"
CITIES = ["Hangzhou", "Beijing", "杭州", "Malaga"]


def guess(*labels: str) -> Guess:
    utterances = [f"utterance {number}" for number in range(len(labels))]
    return guess_vocabulary(utterances, [parse_calls(label) for label in labels])


def guess_single(*values: str) -> tuple[str, list[str], str]:
    """Return the type of an intent's only slot, its closed list, and the remark on the list."""
    guessed = guess(*(f'f("{value}")' for value in values))
    (slot,) = guessed.vocabulary.intents["f"].slots
    place = ("intents", "f", "slots", "0")
    assert guessed.remarks[*place, "name"] == "guessed"
    assert ((*place, "type") in guessed.remarks) == (slot.type != "text")
    return slot.type, list(slot.values), guessed.remarks.get((*place, "values"), "")


def test_slot_names_are_those_of_the_labels() -> None:
    guessed = guess("f(city=Hangzhou,day=tomorrow)", "f(day=Friday)", "f(x,city=a);g()")
    assert [slot.name for slot in guessed.vocabulary.intents["f"].slots] == ["city", "day"]
    assert guessed.vocabulary.intents["f"].slots[0].examples == ("Hangzhou", "a")
    assert guessed.vocabulary.intents["g"].slots == ()
    assert guessed.remarks == {
        ("intents", "f"): "3 utterances, 1 values without names",
        ("intents", "g"): "1 utterance",
    }
    assert guessed.num_guessed == 0


def test_calls_of_one_size_have_a_slot_for_each_place() -> None:
    guessed = guess("f(a,b)", "f(c,d)", "g(a)", "g()")
    names = {
        intent: [slot.name for slot in entry.slots]
        for intent, entry in guessed.vocabulary.intents.items()
    }
    assert names == {"f": ["value_1", "value_2"], "g": ["value_1"]}
    assert {entry.order for entry in guessed.vocabulary.intents.values()} == {"appearance"}
    assert guessed.num_guessed == 3


def test_calls_of_several_sizes_leave_the_slots_to_a_person() -> None:
    guessed = guess("f(a)", "f(c,d)", "f(c,d,e)")
    assert guessed.vocabulary.intents["f"].slots == ()
    assert guessed.remarks["intents", "f"] == (
        "3 utterances, 1 to 3 values without names: add the slots"
    )


def test_the_most_frequent_intent_comes_first() -> None:
    assert list(guess("b()", "c()", "a()", "c()").vocabulary.intents) == ["c", "a", "b"]


def test_types_are_guessed_from_clear_values() -> None:
    assert guess_single("3", "三", "5.0", "20%", "twelve")[0] == "number"
    assert guess_single("明天", "Friday", "2024-05-01", "下周一", "May 5")[0] == "date"
    assert guess_single("1998", "2015", "2001", "1984", "2020")[0] == "date"
    assert guess_single("3", "4", "5", "6")[0] == "text", "too few"
    assert guess_single("3", "4", "5", "Hello", "6")[0] == "text"
    assert guess_single(*CITIES)[0] == "text"


def test_a_closed_list_has_what_occurs_often_and_names_the_rest() -> None:
    values = [*["高档型"] * 20, *["经济型"] * 20, *["高档"] * 2, "经济形", "高挡型"]
    kind, listed, remark = guess_single(*values)
    assert (kind, listed) == ("one_of", ["高档型", "经济型", "高档"])
    assert remark == (
        "guessed; left out, because they occur once: 经济形, 高挡型; look alike: 高档型 and 高档, "
        "高档型 and 高挡型, 经济型 and 经济形"
    )
    assert guess_single(*["4 stars"] * 20, *["5 stars"] * 20)[2] == "guessed"
    assert guess_single(*CITIES * 5)[:2] == ("one_of", CITIES)
    assert guess_single(*CITIES * 4)[0] == "text", "too few"
    assert guess_single(*CITIES * 5, "x", "y")[0] == "text", "others are too many"


def test_one_of_several_places_has_no_list_of_its_own() -> None:
    guessed = guess(*["f(Hangzhou,red,3)", "f(red,Hangzhou,4)"] * 20)
    assert [slot.type for slot in guessed.vocabulary.intents["f"].slots] == [
        "text",
        "text",
        "number",
    ]


def test_examples_are_short_utterances_with_that_intent_alone() -> None:
    utterances = ["a", "b and a", "c", "x" * 200, "d", "two\nlines", "e", "a"]
    labels = [parse_calls(t) for t in ["f()", "f();g()", *["f()"] * 6]]
    intents = guess_vocabulary(utterances, labels).vocabulary.intents
    assert intents["f"].examples == ("a", "d", "e")
    assert intents["g"].examples == ()


values = st.one_of(st.sampled_from(["on", "3", "明天", "", "a: b", "\x00"]), st.text(max_size=100))
arguments = st.builds(
    Argument, value=values, name=st.sampled_from([None, None, None, "on", "城市", "x.y"])
)
calls = st.builds(
    Call,
    intent=st.sampled_from(["no", "播放", "f"]),
    arguments=st.lists(arguments, max_size=3).map(tuple),
)


@given(st.lists(st.tuples(values, st.lists(calls, min_size=1, max_size=2)), min_size=1))
def test_every_guess_reads_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[Call]]]
) -> None:
    guessed = guess_vocabulary([text for text, _ in rows], [tuple(label) for _, label in rows])
    path = tmp_path_factory.mktemp("guess") / "intents.yaml"
    text = render_vocabulary(guessed.vocabulary, guessed.remarks, "x")
    path.write_text(text, encoding="utf-8")
    assert read_vocabulary(path) == guessed.vocabulary
    assert text.count("  # ") >= len(guessed.remarks)


@pytest.mark.parametrize("source", ["crosswoz_zh", "snips_en"])
def test_no_value_of_the_shared_sets_is_named_by_its_place(source: str) -> None:
    rows = json.loads((DATA / source / "train.json").read_text(encoding="utf-8"))
    labels = [parse_calls(row["output"]) for row in rows]
    guessed = guess_vocabulary([row["instruction"] for row in rows], labels)
    for call in (call for label in labels for call in label):
        names = name_slots(call, guessed.vocabulary)
        assert len(names) < 2 or not any(names)
        named = dict(zip(call.arguments, names, strict=True))
        for order in permutations(call.arguments) if len(call.arguments) < 5 else ():
            moved = call.model_copy(update={"arguments": order})
            renamed = name_slots(moved, guessed.vocabulary)
            assert dict(zip(order, renamed, strict=True)) == named
