"""Rules for the values of a label: order, commas within a value, and values that are missing."""

import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.calls import parse_calls
from intent_core.quality.coverage import check_quality
from intent_core.quality.findings import Corpus, FindingRow
from intent_core.quality.missing_values import is_whole
from intent_core.quality.values import is_in_order
from tests.intent_core.quality.conftest import CheckRows

CITIES = [
    "Oslo",
    "Bergen",
    "Turin",
    "Malaga",
    "Gdansk",
    "Nantes",
    "Split",
    "Delft",
    "Namur",
    "Graz",
]
PAIRS = list(itertools.pairwise(CITIES))
FLIGHTS = [(f"I leave from {a} and go to {b}", f"book_flight({a},{b})") for a, b in PAIRS]


def find(rule: str, *rows: tuple[str, str]) -> list[FindingRow]:
    corpus = Corpus([text for text, _ in rows], [parse_calls(output) for _, output in rows])
    found = {result.finding.rule: result.rows for result in check_quality(corpus)}
    return list(found.get(rule, ()))


def test_another_order_is_named_where_the_others_keep_theirs() -> None:
    row = ("I leave from Rome and go to Bari", "book_flight(Bari,Rome)")
    (found,) = find("value-order", *FLIGHTS, row)
    assert found["utterance"] == row[0]
    assert find("value-order", *FLIGHTS, ("from Rome to Rome", "book_flight(Rome,Rome)")) == []
    mixed = [(f"I leave from {a} and go to {b}", f"book_flight({b},{a})") for a, b in PAIRS]
    assert find("value-order", *FLIGHTS[:5], *mixed[5:]) == [], "there is no habit to break"


@pytest.mark.parametrize(
    ("text", "output", "value"),
    [
        ("send 1,000 dollars", "transfer(1,000)", "1,000"),
        ("转1,000元", "transfer(1,000)", "1,000"),
        ("pay 12,500,000 now", "transfer(12,500,000)", "12,500,000"),
        ("remind me on March 5, 2024", "remind(March 5, 2024)", "march 5, 2024"),
        ("remind me on 5 Mar, 2024", "remind(5 Mar,2024)", "5 mar, 2024"),
        ("play Hello, Goodbye", "play(Hello, Goodbye)", "hello, goodbye"),
        ("播放你好，再见", "play(你好，再见)", "你好,再见"),
        ("播放《红、黑》", "play(《红,黑》)", "《红、黑》"),
        ("area of [[1,2],[3,4]]", "area(vertices=[[1,2],[3,4]])", "[[1,2],[3,4]]"),
        ("set {a: 1, b: 2}", "set({a: 1, b: 2})", "{a: 1, b: 2}"),
    ],
)
def test_one_value_that_became_several(text: str, output: str, value: str) -> None:
    (found,) = find("joined-values", (text, output))
    assert found["value"] == value


def test_values_that_other_calls_have_apart_are_several() -> None:
    apart = [(f"weather for {a} in {b}", f"weather({a},{b})") for a, b in PAIRS]
    assert find("joined-values", *apart, ("weather in Bari, Italy", "weather(Bari,Italy)")) == []
    assert find("joined-values", ('play "Hello, Goodbye"', 'play("Hello, Goodbye")')) == []
    assert find("joined-values", ("go to Bari then Rome", "go(Bari,Rome)")) == []
    (found,) = find("joined-values", *apart, ("weather on 1,000 hills", "weather(1,000)"))
    assert found["value"] == "1,000"


@pytest.mark.parametrize(
    ("row", "reason", "value"),
    [
        (("I leave from Rome and go to Bari", "book_flight()"), "few", None),
        (("I leave from Oslo and go to Bergen please", "book_flight(Oslo)"), "few", None),
    ],
)
def test_fewer_values_than_elsewhere(row: tuple[str, str], reason: str, value: str | None) -> None:
    (found,) = find("missing-values", *FLIGHTS, row)
    assert (found["utterance"], found["reason"], found.get("value")) == (row[0], reason, value)


def test_a_value_that_others_label() -> None:
    rows = [(f"listen to {name} on Deezer", f"play({name},Deezer)") for name in CITIES]
    rows += [(f"hear the song {name}", f"play({name})") for name in CITIES]
    (found,) = find("missing-values", *rows, ("open Deezer and play Rome", "play(Rome)"))
    assert (found["reason"], found["value"]) == ("known", "deezer")


def test_the_shape_of_another_row() -> None:
    rows = [
        (f"我想查一下{city}明天的天气怎么样", f"weather({city})")
        for city in ("杭州", "北京", "上海", "苏州")
    ]
    rows += [(f"天气好吗{n}", "weather()") for n in range(8)]
    (found,) = find("missing-values", *rows, ("我想查一下西安明天的天气怎么样", "weather()"))
    assert (found["reason"], found["value"]) == ("shape", "西安")
    pronoun = ("我想查一下这里明天的天气怎么样", "weather()")
    assert find("missing-values", *rows, pronoun) == []


@given(st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=4), max_size=5), st.data())
def test_parts_of_a_text_are_in_order(parts: list[str], data: st.DataObject) -> None:
    text = " ".join(parts)
    kept = [part for part in parts if data.draw(st.booleans())]
    assert is_in_order(text, kept)


@given(st.text("ab1 好,", max_size=12), st.data())
def test_a_whole_part_has_no_word_around_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    letters = string.ascii_letters + string.digits
    cut = any(
        0 < at < len(text) and text[at - 1] in letters and text[at] in letters
        for at in (start, end)
    )
    assert is_whole(text, start, end) is not cut


def test_rows_have_places(check_rows: CheckRows) -> None:
    found = check_rows(*FLIGHTS, ("from Rome to Bari", "book_flight()"))
    (row,) = found["missing-values"]
    assert (row["source"], row["line"]) == ("export.jsonl", len(FLIGHTS) + 1)
