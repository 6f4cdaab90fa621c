"""The data check with a label vocabulary: each deviation, its likely value and its rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.check_export import check_export
from intent_core.language.calls import format_calls, parse_calls
from intent_core.language.vocabulary import Vocabulary
from intent_core.quality.findings import Corpus, RuleResult
from intent_core.quality.guess_vocabulary import guess_vocabulary
from intent_core.quality.vocabulary_check import check_vocabulary, find_likely
from intent_core.recipe.config import DataConfig, PipelineConfig

DATA = Path(__file__).parents[2] / "data"

CITY = {"name": "city", "type": "one_of", "values": {"Hangzhou": ["HZ", "杭州"], "北京": []}}
DAY = {"name": "day", "type": "date"}
GUESTS = {"name": "guests", "type": "number"}
NOTE = {"name": "note"}
LEVEL = {"name": "level", "values": {"高档型": ["高档"]}}


def vocabulary(*slots: dict[str, Any], order: str = "appearance", **others: Any) -> Vocabulary:
    entry = {"slots": slots, "order": order}
    return Vocabulary.model_validate({"intents": {"f": entry, **others}})


def check(known: Vocabulary | None, *labels: str) -> dict[str, RuleResult]:
    corpus = Corpus(
        utterances=[f"utterance {number}" for number in range(len(labels))],
        labels=[parse_calls(label) for label in labels],
        places=[
            {"source": "e.manifest", "line": number, "byte_offset": number * 10}
            for number in range(1, len(labels) + 1)
        ],
        vocabulary=known,
    )
    return {result.finding.rule: result for result in check_vocabulary(corpus)}


def check_one(known: Vocabulary, label: str) -> list[tuple[str, str | None]]:
    """Return the rules that one label breaks, each with the likely value."""
    results = check(known, label)
    return [(rule, row.get("likely")) for rule, result in results.items() for row in result.rows]


def test_nothing_is_reported_without_a_vocabulary() -> None:
    assert check(None, "f(x)", "g()") == {}


@pytest.mark.parametrize(
    "name",
    ["Play_Music", "play-music", "playmusic", "ｐｌａｙ_music", "Output:play_music", "play_musci"],
)
def test_an_unknown_intent_is_reported_with_the_likely_one(name: str) -> None:
    known = vocabulary(play_music={}, play_song={}, get_weather={})
    results = check(known, "f()", "play_music()", "play_song();get_weather()", f"{name}()", "zzz()")
    finding, rows = results.pop("unknown-intents")
    assert results == {}
    assert finding.severity == "warning"
    assert finding.message == (
        f"2 intent(s) are not in the vocabulary: {name} (likely play_music), zzz"
    )
    assert [(row["line"], row["intent"], row.get("likely")) for row in rows] == [
        (4, name, "play_music"),
        (5, "zzz", None),
    ]
    assert finding.places == "e.manifest:4-5"
    assert finding.file == "unknown_intents.jsonl"


@pytest.mark.parametrize(
    ("label", "slots", "broken"),
    [
        ("f(citi=Hangzhou)", [CITY], [("unknown-slots", "city")]),
        ("f(zzz=Hangzhou)", [CITY], [("unknown-slots", None)]),
        ("f(city=Hangzhuo)", [CITY], [("unlisted-values", "Hangzhou")]),
        ("f(city=hangzhou)", [CITY], [("unlisted-values", "Hangzhou")]),
        ("f(city=杭洲)", [CITY], [("unlisted-values", "Hangzhou")]),
        ("f(city=北京市)", [CITY], [("unlisted-values", "北京")]),
        ("f(city=Malaga)", [CITY], [("unlisted-values", None)]),
        ("f(city=HZ)", [CITY], [("synonym-values", "Hangzhou")]),
        ("f(HZ)", [CITY], [("synonym-values", "Hangzhou")]),
        ("f(level=高档)", [LEVEL], [("synonym-values", "高档型")]),
        ("f(Hangzhuo)", [CITY, DAY], [("unlisted-values", "Hangzhou")]),
        ("f(purple)", [GUESTS, DAY], [("wrong-types", None)]),
        ("f(guests=purple)", [GUESTS, NOTE], [("wrong-types", None)]),
        ("f(day=purple)", [DAY], [("wrong-types", None)]),
        ("f(hangzhou)", [CITY, NOTE], [("unlisted-values", "Hangzhou")]),
        ("f(level=高 档 型)", [LEVEL], [("unlisted-values", "高档型")]),
    ],
)
def test_what_the_vocabulary_does_not_have_is_reported(
    label: str, slots: list[dict[str, Any]], broken: list[tuple[str, str | None]]
) -> None:
    assert check_one(vocabulary(*slots), label) == broken


@pytest.mark.parametrize(
    ("label", "slots"),
    [
        ("f(city=Hangzhou,day=明天)", [CITY, DAY]),
        ("f(Hangzhou,明天)", [CITY, DAY]),
        ("f(Hangzhuo)", [CITY, NOTE]),
        ("f(guests=3个人)", [GUESTS]),
        ("f(day=in 3 weeks)", [DAY]),
        ("f(anything,at all)", []),
        ("f(x=anything)", []),
        ("f(level=便宜)", [LEVEL]),
        ("f()", [CITY]),
        ("f(Hangzhou,北京)", [CITY]),
    ],
)
def test_what_may_be_right_is_not_reported(label: str, slots: list[dict[str, Any]]) -> None:
    assert check_one(vocabulary(*slots), label) == []


def test_a_fixed_order_needs_a_value_for_each_slot() -> None:
    known = vocabulary(CITY, DAY, order="fixed")
    results = check(known, "f(Hangzhou,明天)", "f(Hangzhou)", "f(Hangzhuo,purple)")
    counts = results["fixed-counts"]
    assert [row["line"] for row in counts.rows] == [2]
    assert counts.finding.message.endswith("too few or too many values: f with 1 instead of 2")
    assert [row["slot"] for row in results["unlisted-values"].rows] == ["city"]
    assert [row["slot"] for row in results["wrong-types"].rows] == ["day"]


def test_an_intent_without_a_label_is_noted() -> None:
    corpus = Corpus(["a"], [parse_calls("f()")], test=[parse_calls("g()")])
    known = vocabulary(g={}, h={})
    (result,) = check_vocabulary(corpus._replace(vocabulary=known))
    assert result.finding.rule == "unused-intents" and result.finding.severity == "note"
    assert result.rows == [{"intent": "h"}]


def test_repeated_deviations_are_counted() -> None:
    (result,) = check(vocabulary(CITY), *["f(city=Hangzhuo)"] * 3, "f(city=Rome)").values()
    assert result.finding.message == (
        "2 value(s) are not in the list of their slot: "
        "'Hangzhuo' of f.city (likely Hangzhou) 3 times, 'Rome' of f.city"
    )
    assert result.finding.numbers == {"num_different": 2, "num_places": 4}


@given(st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_the_likely_name_is_a_known_one(name: str, known: list[str]) -> None:
    assert find_likely(name, known) in [None, *known]
    assert find_likely(known[0], known) is not None


@pytest.mark.parametrize("source", ["crosswoz_zh", "snips_en"])
def test_labels_break_no_rule_of_the_vocabulary_guessed_from_them(source: str) -> None:
    rows = json.loads((DATA / source / "train.json").read_text(encoding="utf-8"))
    labels = [row["output"] for row in rows]
    guessed = guess_vocabulary(
        [row["instruction"] for row in rows], [parse_calls(label) for label in labels]
    )
    results = check(guessed.vocabulary, *labels)
    # A list has no values that occur once: a person decides on these.
    assert results.keys() <= {"unlisted-values"}


def test_every_planted_fault_is_found_in_an_export(tmp_path: Path) -> None:
    names = ["play_musik", "Play_music", "play_music2", "playmusic", "plya_music"]
    values = ["Hangzhuo", "hangzhou", "Hang zhou", "Hangzou", "HANGZHOU"]
    labels = [
        *["play_music()"] * 20,
        *["f(city=Hangzhou,guests=4)"] * 20,
        *[f"{name}()" for name in names],
        *[f"f(city={value})" for value in values],
        *[f"f(guests={value})" for value in ("purple", "red", "blue", "green", "teal")],
    ]
    export = tmp_path / "e.json"
    export.write_text(
        json.dumps(
            [
                {"instruction": f"utterance number {number}", "output": label}
                for number, label in enumerate(labels)
            ],
            indent=0,
        ),
        encoding="utf-8",
    )
    data = DataConfig(vocabulary=vocabulary(CITY, GUESTS, play_music={}))
    out = tmp_path / "findings"
    outcome = check_export(export, PipelineConfig(data=data), out=out)
    found = {finding.rule: finding for finding in outcome.findings}
    for rule, offset in (("unknown-intents", 40), ("unlisted-values", 45), ("wrong-types", 50)):
        written = (out / found[rule].file).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in written]
        assert sorted(row["utterance"] for row in rows) == [
            f"utterance number {number}" for number in range(offset, offset + 5)
        ]
        assert sorted(row["output"] for row in rows) == sorted(
            format_calls(parse_calls(label)) for label in labels[offset : offset + 5]
        )
        assert all(row["line"] > offset for row in rows)
        if rule != "wrong-types":
            assert {row["likely"] for row in rows} <= {"Hangzhou", "play_music"}
