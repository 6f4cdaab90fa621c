"""A model's answers next to the utterances of a manifest, and what an export says of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.exports.input_manifest import read_utterances, write_manifest
from intent_core.exports.prelabel import fits_questions, make_prelabel
from intent_core.exports.reader import read_export
from intent_core.exports.records import ExportReading
from intent_core.language.calls import Argument, Call, format_calls, parse_calls
from intent_core.recipe.config import DataConfig, Template

TEMPLATE = Template(intent="意图", slots=("city", "date"))
MODEL = "intent-0123456789ab"
SLOT = st.none() | st.sampled_from(["city", "date", "other"])
CALLS = st.lists(
    st.builds(
        Call,
        intent=st.sampled_from(["a", "b"]),
        arguments=st.lists(
            st.builds(Argument, value=st.sampled_from("xyz"), name=SLOT), max_size=3
        ).map(tuple),
    ),
    min_size=1,
    max_size=2,
).map(tuple)


def export(tmp_path: Path, *rows: object) -> ExportReading:
    path = tmp_path / "e.manifest"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_export(path, DataConfig(max_rejection_rate=1))


def labelled(answer: str | None, number: int = 0, **stages: str) -> dict[str, Any]:
    data = {"instruction": f"hi {number}", **make_prelabel(parse_calls("a(x)"), MODEL, None)}
    given = {"": answer, **{f"-{stage}": text for stage, text in stages.items()}}
    labels = {
        f"label-1{stage}": {"results": [{"data": text, "markTitle": "output"}]}
        for stage, text in given.items()
        if text is not None
    }
    return {"data": data, **labels}


@pytest.mark.parametrize(
    ("calls", "fields"),
    [
        ("a(x,y)", {"意图": "a", "city": "x", "date": "y"}),
        ("a(x)", {"意图": "a", "city": "x", "date": ""}),
        ("a(date=y)", {"意图": "a", "city": "", "date": "y"}),
        ("a(date=y,x)", {"意图": "a", "city": "x", "date": "y"}),
        ("a()", {"意图": "a", "city": "", "date": ""}),
        ("a(x,y,z)", None),
        ("a(date=y,x,z)", None),
        ("a(date=y,date=z)", None),
        ("a(other=y)", None),
        ("a();b()", None),
    ],
)
def test_each_question_has_its_own_field(calls: str, fields: dict[str, str] | None) -> None:
    made = make_prelabel(parse_calls(calls), MODEL, TEMPLATE)
    assert fits_questions(parse_calls(calls), TEMPLATE) == (fields is not None)
    fields = fields or {"意图": "", "city": "", "date": ""}
    assert made == {
        "prelabel": calls,
        **{f"prelabel_{title}": text for title, text in fields.items()},
        "prelabel_model": MODEL,
    }


@given(CALLS)
def test_no_value_is_lost_in_the_fields(calls: tuple[Call, ...]) -> None:
    made = make_prelabel(calls, MODEL, TEMPLATE)
    assert parse_calls(made["prelabel"]) == calls
    if fits_questions(calls, TEMPLATE):
        values = sorted(argument.value for argument in calls[0].arguments)
        assert sorted(filter(None, (made["prelabel_city"], made["prelabel_date"]))) == values


def test_an_answer_that_is_no_call_leaves_the_fields_empty() -> None:
    assert make_prelabel(None, MODEL, None) == {"prelabel": "", "prelabel_model": MODEL}


def test_the_manifest_has_the_fields_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "m.manifest"
    made = [make_prelabel(parse_calls("a(x)"), MODEL, None)]
    assert write_manifest(["hi"], path, prelabels=made) == 1
    row = {"instruction": "hi", "prelabel": "a(x)", "prelabel_model": MODEL}
    assert json.loads(path.read_bytes()) == {"data": row}
    assert read_utterances(path).utterances == ("hi",)
    # It is not labelled.
    (rejection,) = read_export(path, DataConfig(max_rejection_rate=1)).rejections
    assert rejection.reason == "unlabelled"
    write_manifest(["hi"], path, "prelabel", made)
    assert json.loads(path.read_bytes())["data"]["prelabel"] == "hi"


def test_the_fields_are_not_reported_in_an_export(tmp_path: Path) -> None:
    flat = {"instruction": "hi", "output": "a()", "prelabel": "b()", "prelabel_model": MODEL}
    reading = export(tmp_path, labelled("a(x)"), labelled("b()"), flat)
    assert [record.output for record in reading.records] == ["a(x)", "b()", "a()"]
    assert not reading.reports


def test_only_what_a_person_labelled_is_a_label(tmp_path: Path) -> None:
    rows = [
        labelled("a(x)", 0),  # accepted
        labelled("a(x)", 1, system="a(x)"),
        labelled(None, 2, system="a(x)"),  # iTAG's own result
        labelled(None, 3, system="b()"),
        labelled(None, 4, check="a(x)", system="a(x)"),
        {**labelled("a(x)", 5), "abandonFlag": 1},
        labelled(None, 6),
        labelled(None, 7, system="a( x )"),
    ]
    reading = export(tmp_path, *rows, *rows)
    assert [record.line for record in reading.records[:4]] == [1, 2, 4, 5]
    reasons = {rejection.line: rejection.reason for rejection in reading.rejections}
    assert reasons == {
        **dict.fromkeys((3, 7, 8, 11, 15, 16), "unlabelled"),
        **dict.fromkeys((6, 14), "abandoned"),
    }
    assert "is the pre-label of the model" in reading.rejections[0].message
    assert format_calls(parse_calls(reading.records[0].output)) == "a(x)"
