"""Who answered, and the id of the answer, on every row that states them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.deduplicate import deduplicate
from intent_core.exports.annotators import ITAG_KEYS, read_annotator
from intent_core.exports.convert import convert_export
from intent_core.exports.reader import find_origin, read_export
from intent_core.exports.records import ExportReading
from intent_core.files import to_jsonl
from intent_core.recipe.config import DataConfig

CONFIG = DataConfig()


def itag(*answers: tuple[str, str, str], text: str = "hi") -> dict[str, Any]:
    results = [
        {"data": answer, "markTitle": "output", "MarkResultId": number, "UserName": name}
        for answer, number, name in answers
    ]
    return {"data": {"instruction": text}, "label-1": {"results": results}}


def label_studio(person: object) -> dict[str, Any]:
    result = {"from_name": "output", "value": {"text": ["a()"]}}
    return {"data": {"text": "hi"}, "annotations": [{"completed_by": person, "result": [result]}]}


def read(tmp_path: Path, *rows: object, name: str = "e.jsonl") -> ExportReading:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_export(path, CONFIG)


@pytest.mark.parametrize(
    ("row", "annotator"),
    [
        (itag(("a()", "7", "li")), "li"),
        (label_studio(10), "10"),
        (label_studio({"id": 10, "email": "li@x.cn", "first_name": ""}), "li@x.cn"),
        (label_studio(None), ""),
        ({"text": "hi", "label": ["a"], "annotator": "li"}, "li"),
        ({"text": "hi", "label": ["a"], "username": "li"}, "li"),
        ({"text": "hi", "label": ["a"], "user": 3}, "3"),
        ({"text": "hi", "label": ["a"], "annotation_approver": "li"}, "li"),
        ({"text": "hi", "label": ["a"], "annotation_approver": None}, ""),
        ({"instruction": "hi", "output": "a()", "annotator": "li"}, "li"),
        ({"prompt": "hi", "label": "a()", "predict": "b()", "annotator": "li"}, "li"),
        (
            {
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "a()"},
                ],
                "annotator": "li",
            },
            "li",
        ),
    ],
)
def test_each_format(tmp_path: Path, row: dict[str, Any], annotator: str) -> None:
    reading = read(tmp_path, row)
    (record,) = reading.records
    assert record.annotator == annotator == find_origin(row, CONFIG).annotator
    assert not [note for note in record.notes if note.kind == "unread-field"]


def test_a_table_has_a_column(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("instruction,output,annotator\nhi,a(),李\n", encoding="utf-8")
    assert read_export(path, CONFIG).records[0].annotator == "李"


def test_the_annotator_of_the_used_answer(tmp_path: Path) -> None:
    row = itag(("a()", "1", "li"), ("b()", "2", "wang"), ("b()", "3", "zhao"))
    reading = read(tmp_path, row)
    (record,), (report,) = reading.records, reading.reports
    assert (record.output, record.mark_result, record.annotator) == ("b()", "2", "wang")
    assert (report.mark_result, report.annotator) == ("2", "wang")
    assert "'b()' x2 ('wang', 'zhao'), 'a()' x1 ('li')" in report.message


def test_a_rejection_names_all_who_answered(tmp_path: Path) -> None:
    row = itag(("a()", "1", "li"), ("b()", "2", "wang"))
    (rejection,) = read(tmp_path, row, itag(("c()", "9", ""))).rejections
    assert rejection.reason == "annotators-disagree"
    assert (rejection.mark_result, rejection.annotator) == ("1, 2", "li, wang")


def test_only_what_is_stated_is_written(tmp_path: Path) -> None:
    out, rejected = tmp_path / "o.json", tmp_path / "r.jsonl"
    path = tmp_path / "e.jsonl"
    rows = [itag(("a(", "1", "li")), {"instruction": "x", "output": "a("}, itag(("a()", "2", "li"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = DataConfig(tolerate=(), max_rejection_rate=1)
    convert_export(path, out, config, rejected=rejected)
    first, second = map(json.loads, rejected.read_bytes().splitlines())
    assert (first["mark_result"], first["annotator"]) == ("1", "li")
    assert not {"mark_result", "annotator"} & second.keys()
    assert json.loads(out.read_bytes()) == [{"instruction": "hi", "output": "a()"}]
    rejections = read_export(path, config).rejections
    assert list(map(json.loads, to_jsonl(rejections).splitlines())) == [first, second]


def test_a_conflict_names_who_gave_each_label(tmp_path: Path) -> None:
    rows = [
        itag(("a()", "1", "li")),
        itag(("b()", "2", "wang")),
        {"instruction": "hi", "output": "a()"},
    ]
    (conflict,) = deduplicate(read(tmp_path, *rows).records, CONFIG).conflicts
    records: Any = conflict["records"]
    assert [(r.get("mark_result"), r.get("annotator")) for r in records] == [
        ("1", "li"),
        (None, None),
        ("2", "wang"),
    ]


KEYS = (
    *("data", "annotations", "label-1", "label-1-check", "results", "completed_by", "text"),
    *("label", "user", "messages", "instruction", "output", "id", "email", *ITAG_KEYS),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_an_origin_is_never_an_error(row: object) -> None:
    for text in find_origin(row, CONFIG):
        assert text.isprintable()
    assert read_annotator(row).isprintable()
