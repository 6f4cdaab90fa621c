"""The intent schema of a dataset's labels, and the pattern of all answers that match it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.calls import Argument, Call, format_calls, parse_calls
from intent_core.language.intent_schema import list_intents, write_regex

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_every_label_is_within_its_own_catalogue(name: str) -> None:
    rows = json.loads((DATA / name / "export.json").read_text("utf-8"))
    labels = [parse_calls(row["output"]) for row in rows]
    labels += [
        hard_calls(row) for row in json.loads((DATA / name / "hard.json").read_text("utf-8"))
    ]
    pattern = re.compile(write_regex(list_intents(labels)))
    # A value that contains parentheses is quoted: a regular expression cannot balance them.
    for calls in labels:
        assert pattern.fullmatch(format_calls(calls)), calls


def hard_calls(row: dict[str, Any]) -> tuple[Call, ...]:
    return tuple(
        Call(intent=c["intent"], arguments=tuple(Argument(value=v) for v in c["values"]))
        for c in row["calls"]
    )


def test_what_was_never_seen_is_not() -> None:
    labels = [parse_calls(text) for text in ("a()", "b(x)", "b(x,y)", "c(s=x,t=y)", "c(x)")]
    pattern = re.compile(write_regex(list_intents(labels)))
    for text in (
        "a()",
        "b(杭州,x y)",
        'b("a,b")',
        "c(t=1)",
        "c(1,s=2)",
        "a();b(1);a()",
        'b("\\"")',
    ):
        assert pattern.fullmatch(text), text
        parse_calls(text)
    for text in (
        "",
        "a",
        "a(x)",
        "b()",
        "b(x,y,z)",
        "d()",
        "b(x",
        "b(x))",
        "c(u=1)",
        "a();",
        "b( x)",
    ):
        assert not pattern.fullmatch(text), text


def test_intents_are_counted_by_utterance_and_values_by_call() -> None:
    (a, b) = list_intents([parse_calls("a();a(x)"), parse_calls("b(n=x)"), parse_calls("a()")])
    assert (a.intent, a.num_utterances, a.slot_counts, a.slot_names) == ("a", 2, {0: 2, 1: 1}, {})
    assert (b.slot_counts, b.slot_names) == ({1: 1}, {"n": 1})


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1))
def test_any_canonical_label_is_within_its_own_catalogue(values: list[str]) -> None:
    call = Call(intent="f", arguments=tuple(Argument(value=value) for value in values))
    pattern = re.compile(write_regex(list_intents([(call,)])))
    assert pattern.fullmatch(format_calls([call]))
