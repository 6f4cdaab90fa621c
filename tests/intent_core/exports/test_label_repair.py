"""Labels with typing slips are repaired and reported, or rejected if they are ambiguous."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.errors import CallSyntaxError
from intent_core.exports.label_repair import canonicalise_label, read_label


@pytest.mark.parametrize(
    ("text", "canonical", "slips"),
    [
        ("a()", "a()", ()),
        ("weather_search (Hangzhou)", "weather_search(Hangzhou)", ()),
        (" a( x ,y )\n", "a(x,y)", ()),
        ("get_weather(Nicaragua", "get_weather(Nicaragua)", ("missing-parenthesis",)),
        ("a();b(x, y \n", "a();b(x,y)", ("missing-parenthesis",)),
        ("balance(", "balance()", ("missing-parenthesis",)),
        ("查天气（杭州", "查天气(杭州)", ("missing-parenthesis", "full-width")),
        ("查天气（杭州，明天）；退出（）", "查天气(杭州,明天);退出()", ("full-width",)),
        ("a(x);", "a(x)", ("trailing-semicolon",)),
        ("a(x)；", "a(x)", ("trailing-semicolon", "full-width")),
        ("repeat", "repeat()", ("bare-intent",)),
        ('a("（x）")', 'a("（x）")', ()),
        ("a(Hello（Live）)", 'a("Hello（Live）")', ()),
    ],
)
def test_slips_are_read_and_named(text: str, canonical: str, slips: tuple[str, ...]) -> None:
    label = read_label(text)
    assert (label.canonical, label.slips) == (canonical, slips)
    assert canonicalise_label(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a;b",
        "a();b",
        "a(b;c(d)",
        "a(b;c(d",
        "play(Hello (Live)",
        "a(b,c(d",
        'a("b',
        "a(b,",
        "a b",
    ],
)
def test_what_has_two_readings_or_none_is_refused(text: str) -> None:
    with pytest.raises(CallSyntaxError):
        read_label(text)
    assert canonicalise_label(f" {text}") == text


@given(st.text(alphabet='ab(),;（）；， "=\\', max_size=12))
def test_a_reading_is_stable(text: str) -> None:
    try:
        label = read_label(text)
    except CallSyntaxError:
        return
    assert read_label(label.canonical)[:2] == (label.calls, label.canonical)
    assert read_label(label.canonical).slips == ()
