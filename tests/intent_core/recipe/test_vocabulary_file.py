"""The label vocabulary's file: what it may hold, and how its errors are reported."""

from pathlib import Path

import pytest

from intent_core.errors import ConfigError
from intent_core.language.vocabulary import Vocabulary
from intent_core.recipe.vocabulary_file import read_vocabulary

WHOLE = """
intents:
  weather_search:
    description: Ask for the weather in a city on a day
    order: fixed
    examples: ["Check the weather in Hangzhou"]
    slots:
      - name: city
        description: Where
        type: one_of
        values: {Hangzhou: [HZ, 杭州], Beijing: }
        examples: [Hangzhou]
      - name: 日期
        type: date
  music_exit:
"""


def read(tmp_path: Path, text: str | bytes) -> Vocabulary:
    path = tmp_path / "intents.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_vocabulary(path)


def fail(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_a_whole_vocabulary_is_read(tmp_path: Path) -> None:
    vocabulary = read(tmp_path, WHOLE)
    weather = vocabulary.intents["weather_search"]
    city, day = weather.slots
    assert weather.order == "fixed"
    assert weather.examples == ("Check the weather in Hangzhou",)
    assert city.values == {"Hangzhou": ("HZ", "杭州"), "Beijing": ()}
    assert city.spellings == {
        "Hangzhou": "Hangzhou",
        "HZ": "Hangzhou",
        "杭州": "Hangzhou",
        "Beijing": "Beijing",
    }
    assert (day.name, day.type, day.examples) == ("日期", "date", ())
    assert vocabulary.intents["music_exit"].slots == ()
    assert vocabulary.intents["music_exit"].order == "appearance"
    assert Vocabulary.model_validate_json(vocabulary.model_dump_json()) == vocabulary


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_and_windows_lines_are_no_error(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path, WHOLE.replace("\n", "\r\n").encode(encoding)) == read(tmp_path, WHOLE)


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "no",
        "null",
        "~",
        "12",
        "012",
        "1_000",
        "0x1F",
        "1e3",
        "12:30:45",
        "2024-05-01",
        "yes",
        "1.0",
        ".5",
        "<<",
        ".inf",
        "true",
        "三万",
        "１２",
        "！",
        "5%",
    ],
)
def test_scalars_are_kept_as_written(tmp_path: Path, text: str) -> None:
    slot = f"{{name: s, type: one_of, values: {{{text}: [x{text}], other: }}, examples: [{text}]}}"
    slots = read(tmp_path, f"intents:\n  {text}:\n    slots: [{slot}]\n").intents[text].slots
    assert slots[0].values == {text: (f"x{text}",), "other": ()}
    assert slots[0].examples == (text,)


def test_values_may_be_a_plain_list(tmp_path: Path) -> None:
    slots = read(tmp_path, "intents: {a: {slots: [{name: s, type: one_of, values: [on, 1]}]}}")
    assert slots.intents["a"].slots[0].values == {"on": (), "1": ()}


def test_all_errors_are_listed_with_line_and_what_is_allowed(tmp_path: Path) -> None:
    message = fail(
        tmp_path,
        """intents:
  weather_search:
    order: Fixed
    example: [x]
    slots:
      - nme: city
      - name: day
        type: dat
      - name: size
        type: one_of
      - name: 1st
  play music: {}  # two words
  weather_search: {}
""",
    )
    path = tmp_path / "intents.yaml"
    assert message.startswith(f"vocabulary {path} has ")
    for line in (
        "line 3: intents.weather_search.order: 'Fixed' is not allowed: "
        "Input should be 'appearance' or 'fixed'. Did you mean 'fixed'?",
        "line 4: intents.weather_search.example: no such key. Did you mean 'examples'? Allowed: "
        "description, examples, order, slots",
        "line 6: intents.weather_search.slots.0.name: this key is missing",
        "line 6: intents.weather_search.slots.0.nme: no such key. Did you mean 'name'? Allowed: "
        "description, examples, name, type, values",
        "line 8: intents.weather_search.slots.1.type: 'dat' is not allowed: Input should be "
        "'text', 'number', 'date' or 'one_of'. Did you mean 'date'?",
        "line 9: intents.weather_search.slots.2: one_of needs values",
        "line 11: intents.weather_search.slots.3.name: '1st' is not a slot name",
        "line 12: intents.play music: 'play music' is not an intent name: remove whitespace",
        "line 13: intents.weather_search: this key is in line 2 already",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ("[{name: a}, {name: a}]", "'a' occurs twice"),
        ("[{name: a, type: one_of, values: [x, x]}]", "'x' occurs twice"),
        ("[{name: a, values: {x: [y], z: [y]}}]", "'y' represents more than one value"),
        ("[{name: a, values: {x: [z], z: []}}]", "'z' represents more than one value"),
        ("[{name: a, type: number, values: [x]}]", "number takes no values"),
        ("[{name: a, values: {x: y}}]", "intents.i.slots.0.values.x: 'y' is not allowed"),
        ("[{name: a, values: x}]", "intents.i.slots.0.values: 'x' is not allowed"),
        ("[{name: a, examples: [[x]]}]", "intents.i.slots.0.examples.0: ['x'] is not allowed"),
        ("[{name: a, examples: [x, ]}, 3]", "intents.i.slots.1: '3' is not allowed"),
        ("[{name: a, ? [x] : y}]", "a key must be a text"),
        ('[{name: a, examples: ["\\ud800"]}]', "has an unpaired UTF-16 surrogate"),
    ],
)
def test_a_wrong_slot_is_refused(tmp_path: Path, slots: str, reason: str) -> None:
    message = fail(tmp_path, f"intents:\n  i:\n    slots: {slots}\n")
    assert reason in message
    assert message.splitlines()[1].startswith("  1. line 3: intents.i.slots")


def test_a_value_with_the_same_synonym_twice_is_no_error(tmp_path: Path) -> None:
    text = "intents: {i: {slots: [{name: a, values: {x: [y, y, x]}}]}}"
    assert read(tmp_path, text).intents["i"].slots[0].spellings == {"x": "x", "y": "x"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty: write `intents:`"),
        ("# nothing\n", "is empty"),
        ("---\n", "is empty"),
        ("- a\n", "is not a mapping"),
        ("intents", "is not a mapping"),
        ("{}", "intents: this key is missing"),
        ("intents:\n", "intents: this key is missing"),
        ("intents: {}", "at least 1 item"),
        ("intents: [a]", "intents: ['a'] is not allowed"),
        ("intents: {a: b}", "intents.a: 'b' is not allowed"),
        ("intent: {a: }", "Did you mean 'intents'?"),
        ("intents: {a: \n", "is not YAML"),
        ("\tintents: {a: }", "is not YAML"),
        ("intents: {a: }\n---\nintents: {b: }", "is not YAML"),
        ("intents: &a {b: *a}", "nested too deeply"),
        ("[" * 2000, "is not YAML"),
        ("intents: {播放: }".encode("gbk"), "is not UTF-8"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    assert reason in fail(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml cannot be read: No such file"):
        read_vocabulary(tmp_path / "no.yaml")
