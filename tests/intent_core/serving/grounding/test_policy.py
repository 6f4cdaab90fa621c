"""What is learned from labels about the values of answers."""

import json
from pathlib import Path

import pytest

from intent_core.language.calls import parse_calls
from intent_core.language.vocabulary import Vocabulary
from intent_core.serving.grounding.policy import (
    GroundingPolicy,
    IntentPolicy,
    learn_policy,
    write_policy,
)

DATA = Path(__file__).parents[3] / "data"


def learn(*rows: tuple[str, str], vocabulary: Vocabulary | None = None) -> GroundingPolicy:
    return learn_policy([(text, parse_calls(label)) for text, label in rows], vocabulary)


def copy(count: int) -> list[tuple[str, str]]:
    return [(f"play {n}", f"play({n})") for n in range(count)]


def test_intents_arguments_and_names() -> None:
    policy = learn(
        ("play a by b", "play(a,b);play(a)"),
        ("stop", "stop()"),
        ("wake me at 5 or 6", "alarm(time=5);alarm(time=6)"),
        ("5 in Rome", "weather(5,city=Rome)"),
    )
    assert policy.intents == (
        IntentPolicy(intent="alarm", names=("time",), is_named=True),
        IntentPolicy(intent="play"),
        IntentPolicy(intent="stop", has_values=False),
        IntentPolicy(intent="weather", names=("city",)),
    )
    assert policy.most_calls == 2
    assert GroundingPolicy.model_validate_json(write_policy(policy)) == policy


def test_the_vocabulary_adds_intents_slots_and_values() -> None:
    size = {"name": "size", "type": "one_of", "values": {"大": ["large"], "小": []}}
    known = {"order": {"slots": [size]}, "stop": {"slots": [{"name": "when"}]}, "help": {}}
    vocabulary = Vocabulary.model_validate({"intents": known})
    policy = learn(("a large one", "order(大)"), ("stop", "stop()"), vocabulary=vocabulary)
    assert policy.intents == (
        IntentPolicy(intent="help", has_values=False),
        IntentPolicy(intent="order", listed=("大", "小")),
        IntentPolicy(intent="stop"),
    )
    assert (policy.num_copied, policy.num_unknown, policy.is_copied) == (0, 0, True)


def test_a_value_in_no_utterance_and_no_other_label_is_unknown() -> None:
    seldom = learn(*copy(999), ("play it", "play(that)"))
    assert (seldom.num_copied, seldom.num_unknown, seldom.is_copied) == (999, 1, True)
    often = learn(*copy(998), ("play it", "play(that)"))
    assert (often.num_unknown, often.is_copied) == (1, False)
    assert seldom.intents == often.intents or seldom.intents[0].listed == ("that",)
    twice = learn(*copy(1), ("play it", "play(that)"), ("play this", "play(that)"))
    assert (twice.num_unknown, twice.is_copied) == (0, True)
    empty = learn(("play", 'play("")'), ("go", 'play("")'))
    assert empty.intents[0].listed == ("",) and empty.is_copied


def test_an_intent_with_many_other_values_is_free() -> None:
    rows = [(f"day {n}", f"wait(x{n // 2})") for n in range(130)]
    policy = learn(*rows, *copy(5))
    play, wait = policy.intents
    assert (wait.is_free, wait.listed, play.is_free) == (True, (), False)
    assert (policy.num_unknown, policy.is_copied) == (130, False)
    long = learn(("a", f"wait({'x' * 201})"))
    assert long.intents[0].is_free


def test_labels_without_values_are_grounded_and_no_labels_are_not() -> None:
    assert learn(("stop", "stop()")).is_copied
    assert not learn().is_copied


@pytest.mark.parametrize(
    ("text", "label", "is_kept"),
    [
        ("play a by b", "play(a,b)", True),
        ("play b by a", "play(a,b)", False),
        ("play a", "play(a,a)", False),
        ("play a and a", "play(a,a)", True),
        ("play a b c", "play(a b,b c)", False),
        ("b then a", "play(a);play(b)", True),
        ("play x a", "play(a,x)", False),
        ("play a", "play(b,a)", True),
    ],
)
def test_the_order_of_the_values_of_each_call(text: str, label: str, is_kept: bool) -> None:
    assert learn(("play x", "play(x)"), (text, label)).keeps_order is is_kept


def test_words_that_labels_cut() -> None:
    policy = learn(*copy(1000), ("pmnear Rome", "find(pm,near)"), ("L.aJoseph", "find(L.a)"))
    assert (policy.cut_words, policy.cuts_every_word) == (("pmnear",), False)
    units = policy.reader.list_units("nearby pmnear")
    assert [unit.end - unit.start for unit in units] == [6, *[1] * 6]
    often = learn(*copy(100), ("Wetterbericht", "find(Wetter)"))
    assert (often.cut_words, often.cuts_every_word) == ((), True)


def test_the_file_does_not_grow_with_the_rows() -> None:
    rows = json.loads((DATA / "snips_en" / "train.json").read_bytes())
    labels = [(row["instruction"], parse_calls(row["output"])) for row in rows]
    once, often = (write_policy(learn_policy(labels * times, None)) for times in (1, 50))
    assert len(often) - len(once) < 20
    strange = [(f"in {n}", f"in(x{n},y{n // 3})") for n in range(3000)]
    assert len(write_policy(learn(*strange))) < 500
