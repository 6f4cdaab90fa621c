"""A key that an object has twice is reported with its line, and rejected if something is lost."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.exports.files.json_rows import parse_line
from intent_core.exports.input_manifest import read_utterances
from intent_core.exports.reader import read_export
from intent_core.exports.records import ExportReading
from intent_core.recipe.config import DataConfig

CONFIG = DataConfig(max_rejection_rate=1)
USUAL = (
    '{"data":{"instruction":"hi %d"},"label-1":{"results":[{"data":"a()","markTitle":"output"}]}}'
)
MARK = (
    '{"data":{"instruction":"hi %d"},"label-1":{"results":[{"MarkResult":"{\\"annotations\\":'
    '[{\\"labels\\":{\\"output\\":\\"a()\\"}}]}","MarkTitle":"x"}]}}'
)


def read(tmp_path: Path, text: str, name: str = "e.jsonl") -> ExportReading:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_export(path, CONFIG)


def alpaca(extra: str) -> str:
    return f'{{"instruction":"hi","output":"a()"{extra}}}'


LOST = {
    "the utterance": alpaca(',"instruction":"bye"'),
    "the label": alpaca(',"output":"b()"'),
    "spaces": '{"instruction": "hi", "output": "a()", "output": "b()"}',
    "in the data": '{"data":{"instruction":"a","instruction":"b"},"label-1":{"results":[]}}',
    "the data": '{"data":{"instruction":"a"},"data":{"instruction":"b"},"label-1":{"results":[]}}',
    "results": (USUAL % 1).replace(
        '"results":', '"results":[{"data":"b()","markTitle":"output"}],"results":'
    ),
    "a stage": (USUAL % 1)[:-1] + ',"label-1":{"results":[{"data":"b()","markTitle":"output"}]}}',
    "numbers of other types": alpaca(',"input":1,"input":true'),
    "an escaped key": alpaca(',"out\\u0070ut":"b()"'),
    "a surrogate elsewhere": alpaca(',"output":"b()","note":"\\ud800"'),
}


@pytest.mark.parametrize("line", LOST.values(), ids=LOST)
def test_a_lost_value_is_a_rejection(tmp_path: Path, line: str) -> None:
    reading = read(tmp_path, f"{USUAL % 1}\n{line}\n")
    (rejection,) = reading.rejections
    assert (rejection.reason, rejection.line) == ("repeated-key", 2)
    assert "occurs more than once, with" in rejection.message


@pytest.mark.parametrize(
    "extra", [',"output":"a()"', ',"note":1,"note":1', ',"note":"x","note":"y"', ',"id":1,"id":2']
)
def test_nothing_lost_is_a_report(tmp_path: Path, extra: str) -> None:
    reading = read(tmp_path, f"{USUAL % 1}\n{alpaca(extra)}\n")
    assert not reading.rejections
    (report,) = (report for report in reading.reports if report.kind == "repeated-key")
    assert report.line == 2
    assert f"the key '{extra.split(chr(34))[1]}'" in report.message


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("array.json", "[\n%s,\n%s\n]", 3),
        ("pretty.json", '{\n"instruction":"x",\n"output":"a()"\n}\n%.0s%s', 5),
        ("wrapped.json", '{"rows":[%s,\n%s]}', 1),
        ("several.jsonl", "%s %s\n", 1),
    ],
)
def test_every_kind_of_json(tmp_path: Path, name: str, text: str, line: int) -> None:
    reading = read(tmp_path, text % (alpaca(""), alpaca(',"output":"b()"')), name)
    (rejection,) = reading.rejections
    assert (rejection.reason, rejection.line) == ("repeated-key", line)
    assert len(reading.records) == 1


def test_within_mark_result(tmp_path: Path) -> None:
    twice = (MARK % 1).replace('\\"output\\":', '\\"output\\":\\"b()\\",\\"output\\":')
    (rejection,) = read(tmp_path, f"{MARK % 1}\n{MARK % 2}\n{twice}\n").rejections
    assert rejection.line == 3
    assert "the key 'output' of 'MarkResult' occurs more than once" in rejection.message


@pytest.mark.parametrize("usual", [USUAL, MARK])
@pytest.mark.parametrize("style", ["compact", "spaced"])
def test_the_fast_path_sees_them(tmp_path: Path, usual: str, style: str) -> None:
    lines = [usual % number for number in range(300)]
    other = '"instruction":"other","instruction":'
    lines[200] = lines[200].replace('"instruction":', other)
    begin = lines[250].index("[{")
    lines[250] = lines[250].replace('"results":', f'"results":{lines[250][begin:-2]},"results":')
    if style == "spaced":
        lines = [line.replace('":', '": ').replace('\\": ', '\\":') for line in lines]
    reading = read(tmp_path, "\n".join(lines))
    assert [(r.reason, r.line) for r in reading.rejections] == [("repeated-key", 201)]
    assert [(r.kind, r.line) for r in reading.reports] == [("repeated-key", 251)]
    assert len(reading.records) == 299


@pytest.mark.parametrize("repeated", [3, 15, 25, 35])
def test_the_fast_path_sees_them_in_a_block_whose_layout_changes(
    tmp_path: Path, repeated: int
) -> None:
    lines = [USUAL % number for number in range(40)]
    stage = '"label-1-check":{"results":[{"data":"a()","markTitle":"output"}]},"label-1"'
    lines[10:20] = [line.replace('"label-1"', stage) for line in lines[10:20]]
    lines[20:] = [line.replace('"data":{', '"id":"x","data":{', 1) for line in lines[20:]]
    answer = '"results":[{"data":"b()","markTitle":"output"}],"results"'
    lines[repeated] = lines[repeated].replace('"results"', answer, 1)
    reading = read(tmp_path, "\n".join(lines))
    assert [(r.reason, r.line) for r in reading.rejections] == [("repeated-key", repeated + 1)]
    assert len(reading.records) == 39


def test_a_row_without_the_key_does_not_hide_another(tmp_path: Path) -> None:
    lines = [USUAL % number for number in range(20)]
    lines[10] = lines[10].replace('"instruction":', '"instruction":"other","instruction":')
    lines[15] = lines[15].replace("instruction", "text")
    reasons = {r.line: r.reason for r in read(tmp_path, "\n".join(lines)).rejections}
    assert reasons == {11: "repeated-key", 16: "no-utterance"}


def test_utterances_to_label(tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    path.write_text('{"instruction":"a"}\n{"instruction":"b","instruction":"c"}\n')
    reading = read_utterances(path)
    assert reading.utterances == ("a",)
    assert reading.rejections[0].line == 2


KEYS = st.sampled_from(["a", "b", "output", "é"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 1) | st.text('xé\\"', max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.lists(st.tuples(KEYS, inner), max_size=3).map(tuple)
    ),
    max_leaves=8,
)


def write(value: Any) -> str:
    """Write JSON in which a tuple of pairs is an object."""
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(k)}: {write(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write, value)) + "]"
    return json.dumps(value)


def has_repeat(value: Any) -> bool:
    if not isinstance(value, list | tuple):
        return False
    keys = [key for key, _ in value] if isinstance(value, tuple) else []
    parts = [part for _, part in value] if isinstance(value, tuple) else value
    return len(set(keys)) < len(keys) or any(map(has_repeat, parts))


@given(VALUES)
def test_each_repeated_key_is_seen(value: Any) -> None:
    value = (("row", value),)
    text = write(value).encode()
    for line in (text + b"\n", b"[" + text + b"]\n"):
        (row,) = parse_line(line, 1, 0)
        assert bool(row.repeats) == has_repeat(value)


def test_a_block_is_read_again_in_full(tmp_path: Path) -> None:
    """Each object is one record or one rejection, also of a block that is read twice."""
    lines = [USUAL % number for number in range(50)] + ["", "{", alpaca(',"output":"b()"')]
    lines[20] = lines[20].replace('"instruction":', '"instruction":"other","instruction":')
    reading = read(tmp_path, "\n".join(lines))
    assert reading.tally.num_objects == 52
    assert [record.line for record in reading.records] == [*range(1, 21), *range(22, 51)]
