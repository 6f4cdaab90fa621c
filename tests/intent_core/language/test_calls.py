"""The call syntax: parsing, formatting, and the round trip."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from intent_core.errors import CallSyntaxError
from intent_core.language.calls import Argument, Call, format_calls, is_plain, parse_calls

DATA = Path(__file__).parents[2] / "data"

SLOTS = st.from_regex(r"[^\W\d][\w.\-]{0,8}", fullmatch=True)
INTENTS = st.text(min_size=1).filter(
    lambda s: (
        not any(c.isspace() or c < " " or "\x7f" <= c <= "\x9f" for c in s)
        and not set(s) & set(',;()="\\，；（）')
    )
)
SPICY = st.text(alphabet="ab ,;()=\"\\，；（）\n\t\u3000\u2028\x00'\u200b\u200d\ufe0f❤")
ARGUMENTS = st.builds(Argument, value=st.text() | SPICY, name=st.none() | SLOTS)
CALLS = st.lists(
    st.builds(Call, intent=INTENTS, arguments=st.lists(ARGUMENTS, max_size=4).map(tuple)),
    min_size=1,
    max_size=4,
).map(tuple)


def call(intent: str, *values: str, **named: str) -> Call:
    positional = [Argument(value=value) for value in values]
    return Call(
        intent=intent,
        arguments=(*positional, *(Argument(value=v, name=n) for n, v in named.items())),
    )


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("weather_search(Hangzhou)", (call("weather_search", "Hangzhou"),)),
        ("a();b(x,y)", (call("a"), call("b", "x", "y"))),
        ("play_music(artist=x, track=y)", (call("play_music", artist="x", track="y"),)),
        (
            "  weather_search ( Hangzhou , today ) ; \n",
            (call("weather_search", "Hangzhou", "today"),),
        ),
        ("查天气（杭州，今天）；再见（）", (call("查天气", "杭州", "今天"), call("再见"))),
        ("play(Hello (Live))", (call("play", "Hello (Live)"),)),
        ("go(店（a，b）,x)", (call("go", "店（a，b）", "x"),)),
        ('f("a,b; \\"c\\" (d)\\n\\u00e9", "")', (call("f", 'a,b; "c" (d)\né', ""),)),
        ('f(say "hi")', (call("f", 'say "hi"'),)),
        ("f(1 + 1 = 2)", (call("f", "1 + 1 = 2"),)),
        ("f(a=b=c)", (call("f", a="b=c"),)),
        ('f("a=b")', (call("f", "a=b"),)),
    ],
)
def test_what_is_read(text: str, calls: tuple[Call, ...]) -> None:
    assert parse_calls(text) == calls


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "an intent name"),
        ("weather_search", 15, r"'\('"),
        ("weather search(x)", 9, r"'\('"),
        ("f(a", 4, r"',' or '\)'"),
        ("f(a;g(b)", 4, r"'\)'"),
        ("f(a))", 5, "';' or the end"),
        ("f(a) g()", 6, "';' or the end"),
        ("a();;b()", 5, "an intent name"),
        ("f(a,)", 5, "a value"),
        ("f(,a)", 3, "a value"),
        ("f(x=)", 5, "a value"),
        ('f("a)', 3, "a closing '\"'"),
        ('f("a" b)', 7, r"',' or '\)'"),
        (r'f("a\q")', 5, "one of the escapes"),
        (r'f("\ud800")', 4, "one of the escapes"),
        ("f(a\ud800)", 4, "unpaired UTF-16 surrogate"),
        ("f(店（总店))", 7, "the same width as the opening one"),
    ],
)
def test_where_it_stops_being_calls(text: str, column: int, expected: str) -> None:
    with pytest.raises(CallSyntaxError, match=rf"^column {column}: expected .*{expected}"):
        parse_calls(text)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Hangzhou", "f(Hangzhou)"),
        ('kenneth c "jethro" burns', 'f(kenneth c "jethro" burns)'),
        ('"quoted"', r'f("\"quoted\"")'),
        ("jennie, jennie", 'f("jennie, jennie")'),
        ("店（总店）", 'f("店（总店）")'),
        ("Hello (Live)", 'f("Hello (Live)")'),
        ("a=b", 'f("a=b")'),
        ("", 'f("")'),
        (" a", 'f(" a")'),
        ("a\u3000", 'f("a\u3000")'),
        ("a\nb\u2028\x00", r'f("a\nb\u2028\u0000")'),
        ("C:\\x", r'f("C:\\x")'),
        ("a\u200bb", r'f("a\u200bb")'),
        ("❤️", "f(❤️)"),
    ],
)
def test_quotes_only_where_needed(value: str, written: str) -> None:
    assert format_calls([call("f", value)]) == written


@given(CALLS)
def test_round_trip(calls: tuple[Call, ...]) -> None:
    text = format_calls(calls)
    assert parse_calls(text) == calls
    assert len(text.splitlines()) == 1


@given(SPICY | st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    for candidate in (text, f"f({text})", f'f("{text}")'):
        try:
            calls = parse_calls(candidate)
        except CallSyntaxError as error:
            assert str(error).startswith("column ")
        else:
            assert parse_calls(format_calls(calls)) == calls


def test_long_nesting_is_no_recursion() -> None:
    value = "(" * 50_000 + ")" * 50_000
    assert parse_calls(f"f({value})") == (call("f", value),)


@pytest.mark.parametrize("name", ["a b", "", "f(", "f;", "f，", "a=b", "a\x00"])
def test_intent_names_hold_no_syntax(name: str) -> None:
    with pytest.raises(ValidationError, match="not an intent name"):
        Call(intent=name)


def test_values_are_characters() -> None:
    with pytest.raises(ValidationError, match="surrogate"):
        Argument(value="\ud800")


def test_slot_names_hold_no_syntax() -> None:
    with pytest.raises(ValidationError, match="not a slot name"):
        Argument(value="x", name="1 + 1")


@given(SPICY | st.text() | st.from_regex(r"[ab]\([^\n]{0,8}\)(;c\(x,[^\n]?\))?", fullmatch=True))
def test_what_is_plain_is_canonical(text: str) -> None:
    if is_plain(text):
        assert format_calls(parse_calls(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a()", True),
        ("a(x y,杭州)", True),
        ("a();b(x)", True),
        ('a(x"y)', True),
        ("", False),
        ("a", False),
        ("a( x)", False),
        ("a(x );b()", False),
        ("a(x,)", False),
        ("a(s=x)", False),
        ('a("x")', False),
        ("a(x);", False),
        ("a（x）", False),
        ("a(b(c))", False),
        ("a(x\x85)", False),
        ("a(x\ud800)", False),
    ],
)
def test_plain_labels_are_told_at_a_glance(text: str, expected: bool) -> None:
    assert is_plain(text) is expected


def test_most_real_labels_are_plain() -> None:
    for name in ("snips_en", "crosswoz_zh"):
        rows = json.loads((DATA / name / "train.json").read_text("utf-8"))
        assert sum(is_plain(row["output"]) for row in rows) > 0.99 * len(rows)


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_hard_values_survive(name: str) -> None:
    rows = json.loads((DATA / name / "hard.json").read_text("utf-8"))
    assert len(rows) >= 15
    for row in rows:
        calls = tuple(call(c["intent"], *c["values"]) for c in row["calls"])
        assert parse_calls(format_calls(calls)) == calls


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_plain_labels_are_canonical_as_they_stand(name: str) -> None:
    rows = json.loads((DATA / name / "train.json").read_text("utf-8"))
    assert len(rows) >= 100
    assert [format_calls(parse_calls(r["output"])) for r in rows] == [r["output"] for r in rows]
