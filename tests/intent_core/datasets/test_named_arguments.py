from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.manifest import read_split
from intent_core.datasets.named_arguments import name_arguments, report_unnamed
from intent_core.errors import ConfigError, DataError
from intent_core.language.calls import Argument, Call, format_calls, parse_calls
from intent_core.language.slot_names import name_slots
from intent_core.language.vocabulary import Vocabulary
from intent_core.recipe.loader import load_config
from tests.support.builders.records import build, record, say

VOCABULARY = Vocabulary.model_validate(
    {
        "intents": {
            "weather": {
                "slots": [
                    {"name": "city", "type": "one_of", "values": ["杭州", "Hangzhou"]},
                    {"name": "day", "type": "number"},
                ]
            },
            "taxi": {"order": "fixed", "slots": [{"name": "from"}, {"name": "to"}]},
            "book": {"slots": [{"name": "restaurant"}, {"name": "time"}]},
            "stop": {},
        }
    }
)


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("weather(杭州)", "weather(city=杭州)"),
        ("weather(3,Hangzhou)", "weather(day=3,city=Hangzhou)"),
        ("weather(day=3,Hangzhou)", "weather(day=3,city=Hangzhou)"),
        ("weather(3,Paris)", "weather(3,Paris)"),
        ("taxi(a,b);stop()", "taxi(from=a,to=b);stop()"),
        ("taxi(a)", "taxi(a)"),
        ("book(a)", "book(a)"),
        ("book(a,b);weather(杭州)", "book(a,b);weather(city=杭州)"),
        ("other(a)", "other(a)"),
    ],
)
def test_a_call_has_names_only_if_all_its_values_do(label: str, named: str) -> None:
    row = msgspec.structs.replace(record("u", label), alternatives=(label, "stop()"))
    [changed] = name_arguments([row], VOCABULARY)
    assert (changed.output, changed.alternatives) == (named, (named, "stop()"))


values = st.sampled_from(["杭州", "Hangzhou", "3", "4", "Paris", "a,b", "x=y"])
arguments = st.builds(
    Argument, name=st.sampled_from([None, None, "city", "day", "from"]), value=values
)
calls = st.builds(
    Call,
    intent=st.sampled_from([*VOCABULARY.intents, "other"]),
    arguments=st.lists(arguments, max_size=3, unique_by=lambda a: a.name or object()).map(tuple),
)


@given(st.lists(st.lists(calls, min_size=1, max_size=2)))
def test_names_are_added_and_nothing_else_changes(labels: list[list[Call]]) -> None:
    records = [record(say(i), format_calls(label), i) for i, label in enumerate(labels)]
    changed = name_arguments(records, VOCABULARY)
    for before, after, label in zip(records, changed, labels, strict=True):
        assert msgspec.structs.replace(after, output=before.output) == before
        for old, new in zip(label, parse_calls(after.output), strict=True):
            assert [a.value for a in new.arguments] == [a.value for a in old.arguments]
            names = name_slots(old, VOCABULARY)
            kept = names if None not in names else [a.name for a in old.arguments]
            assert [a.name for a in new.arguments] == list(kept)
    unnamed = [
        r for r in changed if any(not a.name for c in parse_calls(r.output) for a in c.arguments)
    ]
    reported = [row["line"] for result in report_unnamed(changed) for row in result.rows]
    assert reported == [row.line for row in unnamed]


def test_training_and_test_rows_are_named_if_the_recipe_says_so(tmp_path: Path) -> None:
    labels = ["weather(杭州)", "taxi(a,b)", "book(a,b)"]
    records = [record(say(i), labels[i % 3], i) for i in range(90)]
    fixed = [record(say(100 + i), labels[i % 3], i) for i in range(9)]
    known = VOCABULARY.model_dump()
    plain = build(tmp_path / "plain", records, fixed, vocabulary=known)
    named = build(tmp_path / "named", records, fixed, vocabulary=known, named_arguments=True)
    assert plain.text_fingerprint != named.text_fingerprint
    assert plain.test_fingerprint != named.test_fingerprint
    for split in ("train", "test"):
        told = {e.output for e in read_split(tmp_path / "named" / f"{split}.jsonl")}
        assert told == {"weather(city=杭州)", "taxi(from=a,to=b)", "book(a,b)"}
    assert {s.intent: s.slot_names for s in named.intents}["taxi"].keys() == {"from", "to"}
    [finding] = [f for f in named.findings if f.rule == "unnamed-values"]
    assert finding.message.startswith("33 of 99 labels have values without")
    assert (tmp_path / "named" / finding.file).read_text("utf-8").count("\n") == 33
    assert "unnamed-values" not in {f.rule for f in plain.findings}
    with pytest.raises(DataError, match="unnamed-values: 33 of 99"):
        build(
            tmp_path / "stopped",
            records,
            fixed,
            vocabulary=known,
            named_arguments=True,
            stop_on=["unnamed-values"],
        )


def test_names_need_a_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data: named_arguments requires a vocabulary: put"):
        load_config(None, ["data.named_arguments=true"])
    (tmp_path / "intents.yaml").write_text("intents: {a: }")
    (tmp_path / "recipe.yaml").write_text("data: {named_arguments: true}")
    assert load_config(tmp_path / "recipe.yaml").data.named_arguments
