"""Alpaca rows: no text of a row is lost, whatever the keys and the kind of file."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.exports.files.json_rows import RowFault
from intent_core.exports.reader import read_answer, read_export
from intent_core.exports.row_answer import RowAnswer
from intent_core.recipe.config import DataConfig

CASE = Path(__file__).parents[3] / "data/cases/01-alpaca-input/train.jsonl"
RIGHT = [
    ("Give the call for this command\nturn it off", "music_exit()"),
    ("play jazz Give the call for this command\nlouder please", "volume_up()"),
]
ROW = {"instruction": "Do", "output": "a()"}


def read_row(row: Any, **config: Any) -> RowAnswer:
    answer = read_answer(row, DataConfig(**config))
    assert isinstance(answer, RowAnswer), answer
    return answer


def read_file(path: Path, content: str, **config: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    path.write_text(content, encoding="utf-8")
    reading = read_export(path, DataConfig(**config))
    assert not reading.rejections
    return [(r.utterance, r.output, tuple(n.kind for n in r.notes)) for r in reading.records]


def test_the_case_has_its_right_value() -> None:
    reading = read_export(CASE, DataConfig())
    assert [(record.utterance, record.output) for record in reading.records] == RIGHT
    assert not reading.rejections


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "pretty.json", "rows.csv", "rows.tsv"])
def test_the_same_rows_in_every_kind_of_file(name: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in CASE.read_text("utf-8").splitlines()]
    text = io.StringIO()
    if name.endswith((".csv", ".tsv")):
        columns = ["instruction", "history", "input", "output"]
        writer = csv.DictWriter(text, columns, delimiter="\t" if "tsv" in name else ",")
        writer.writeheader()
        history = [json.dumps(row.get("history", [])) for row in rows]
        writer.writerows({**row, "history": h} for row, h in zip(rows, history, strict=True))
    elif name.endswith("jsonl"):
        text.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        json.dump(rows, text, indent=2 if name.startswith("pretty") else None)
    assert [row[:2] for row in read_file(tmp_path / name, text.getvalue())] == RIGHT


@pytest.mark.parametrize(
    ("extra", "utterance"),
    [
        ({"input": ""}, "Do"),
        ({"input": " \n"}, "Do"),
        ({"input": None, "history": None}, "Do"),
        ({"input": {}, "history": []}, "Do"),
        ({"instruction": "", "input": "turn off"}, "turn off"),
        ({"instruction": None, "input": "turn off"}, "turn off"),
        ({"input": "Do"}, "Do\nDo"),
        ({"input": "turn\u200b off"}, "Do\nturn off"),
        ({"history": [["x", None], [None, "y"]]}, "x Do"),
        ({"history": [["播放", "a()"]], "instruction": "爵士"}, "播放爵士"),
        ({"history": [["a\nb", "y"], ["c", "d"]], "input": "e"}, "a b c Do\ne"),
    ],
)
def test_input_and_history_are_part_of_the_utterance(extra: dict[str, Any], utterance: str) -> None:
    answer = read_row({**ROW, **extra})
    assert answer.utterance == utterance
    assert "unread-field" not in [note.kind for note in answer.notes]


@pytest.mark.parametrize(
    "extra",
    [
        {"input": 5},
        {"input": 0},
        {"input": ["x"]},
        {"instruction": 5, "input": "x"},
        {"history": "text"},
        {"history": [[]]},
        {"history": [["a", "b", "c"]]},
        {"history": [[["deep"], "y"]]},
        {"history": [{"role": "user", "content": "x"}]},
    ],
)
def test_what_cannot_be_joined_is_rejected_by_name(extra: dict[str, Any]) -> None:
    fault = read_answer({**ROW, **extra}, DataConfig())
    assert isinstance(fault, RowFault)
    assert fault.reason == "no-utterance"
    assert f"'{next(iter(extra))}'" in fault.message
    assert "correct it" in fault.message


@pytest.mark.parametrize(
    "extra",
    [
        {"system": "You are"},
        {"system": ["x"]},
        {"meta": {"source": {"name": "x"}}},
        {"Input": "turn it off"},
        {"context": "turn it off"},
        {"指令": "关掉"},
        {"tools": "[]"},
        {"chosen": "a()"},
        {"messages": [{"role": "user", "content": "x"}]},
        {"data": "x"},
        {"predict": "b()", "label": "b()"},
    ],
)
def test_other_keys_with_text_are_reported(extra: dict[str, Any]) -> None:
    answer = read_row({**ROW, **extra})
    (note,) = answer.notes
    assert (answer.utterance, note.kind) == ("Do", "unread-field")
    assert f"'{next(iter(extra))}'" in note.message


@pytest.mark.parametrize(
    "extra", [{"system": ""}, {"id": "row 7"}, {"weight": 0.5}, {"date": "2026-11-30T10:00:00Z"}]
)
def test_keys_without_text_are_not_reported(extra: dict[str, Any]) -> None:
    assert read_row({**ROW, **extra}).notes == ()


def test_columns_with_text_are_read_or_reported(tmp_path: Path) -> None:
    table = "instruction,input,output,system,alternatives,tags,score\n"
    cells = 'Do,it,a(),You are,"[""b()""]","{""channel"": ""phone""}",0.5\nDo,,b(),,,,1\n'
    rows = read_file(tmp_path / "rows.csv", table + cells)
    assert rows == [("Do\nit", "a()", ("unread-field",)), ("Do", "b()", ())]
    (tmp_path / "rows.csv").write_text("instruction,,output\nDo,x,a()\n")
    assert read_export(tmp_path / "rows.csv", DataConfig()).tally.reports == {"unread-field": 1}


@pytest.mark.parametrize(
    ("row", "config"),
    [
        ({"text": "Do", "calls": "a()"}, {"utterance_field": "text", "question_title": "calls"}),
        ({"query": "Do", "output": "a()"}, {"utterance_field": "query"}),
        ({"instruction": "Do", "response": "a()"}, {"question_title": "response"}),
        ({"input": "Do", "output": "a()"}, {"utterance_field": "input"}),
        ({"input": "Do", "output": "a()"}, {"format": "alpaca"}),
    ],
)
def test_other_keys_are_settings(row: dict[str, str], config: dict[str, Any]) -> None:
    answer = read_row(row, **config)
    assert (answer.utterance, answer.output, answer.notes) == ("Do", "a()", ())


def test_a_row_without_its_keys_names_those_it_has() -> None:
    for row, setting in (
        ({"instruction": "Do", "response": "a()"}, "data.question_title"),
        ({"prompt": "Do", "output": "a()"}, "data.utterance_field"),
    ):
        fault = read_answer(row, DataConfig())
        assert isinstance(fault, RowFault)
        assert setting in fault.message
        assert all(f"'{key}'" in fault.message for key in row)


@pytest.mark.parametrize(
    ("alternatives", "kinds"),
    [
        (["b(“x，y”)"], ["typed-quotes"]),
        (["\u200bb()"], ["invisible-characters"]),
        (["b（）"], ["full-width"]),
    ],
)
def test_alternatives_are_read_as_labels_are(alternatives: list[str], kinds: list[str]) -> None:
    row = {**ROW, "alternatives": alternatives}
    assert [note.kind for note in read_row(row).notes] == kinds
    refused = read_answer(row, DataConfig(tolerate=()))
    assert isinstance(refused, RowFault) == (kinds != ["invisible-characters"])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["input", "history", "system", "x", "data"]), values))
def test_no_text_is_lost_in_silence(extra: dict[str, Any]) -> None:
    answer = read_answer({**ROW, **extra}, DataConfig())
    if isinstance(answer, RowFault):
        assert answer.message
        return
    reported = " ".join(note.message for note in answer.notes if note.kind == "unread-field")
    given_input = extra.get("input")
    if isinstance(given_input, str):
        words = filter(str.isalnum, given_input.split())
        assert all(word in answer.utterance for word in words)
    for key in extra.keys() - {"input", "history"}:
        if isinstance(extra[key], str) and set(map(str.isalpha, extra[key])) == {True}:
            assert f"'{key}'" in reported or not set(extra[key]) - set("TZ")
