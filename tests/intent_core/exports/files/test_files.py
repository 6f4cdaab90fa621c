"""Files of all kinds: byte order marks, line ends, invalid bytes, long lines, arrays, gzip."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from intent_core.errors import DataError
from intent_core.exports.files import blocks
from intent_core.exports.reader import read_export
from intent_core.recipe.config import DataConfig
from tests.support.builders.export_rows import kinds, outputs, read, reasons, row, survey


def test_bom_crlf_blank_lines_and_gzip(tmp_path: Path) -> None:
    text = json.dumps(row(label_1=survey("a()")))
    path = tmp_path / "export.manifest.gz"
    path.write_bytes(gzip.compress(f"\ufeff{text}\r\n\r\n  \r\n\ufeff{text}\r\n".encode()))
    reading = read_export(path, DataConfig())
    assert [record.line for record in reading.records] == [1, 4]
    assert reading.tally.num_objects == 2


def test_two_objects_on_one_line_are_two_rows(tmp_path: Path) -> None:
    first, second = (json.dumps(row(label_1=survey(o))) for o in ("a()", "b()"))
    reading = read(tmp_path, f"{first} {second}{{")
    assert outputs(reading) == ["a()", "b()"]
    assert (kinds(reading), reasons(reading)) == (["several-objects"], ["not-json"])
    assert reading.rejections[0].byte_offset == len(first) + 1 + len(second)


def test_a_truncated_last_line_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.manifest"
    text = json.dumps(row(label_1=survey("a()")))
    path.write_text(f"{text}\n{text[:30]}")
    reading = read_export(path, DataConfig())
    assert (outputs(reading), reasons(reading)) == (["a()"], ["truncated"])


@pytest.mark.parametrize("indent", [None, 4])
def test_the_documents_training_format(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "train.json"
    rows = [{"instruction": f"u{i}", "output": f"f({i})"} for i in range(3)]
    path.write_text(json.dumps(rows, indent=indent))
    reading = read_export(path, DataConfig())
    assert outputs(reading) == ["f(0)", "f(1)", "f(2)"]
    assert {record.stage for record in reading.records} == {"given"}
    assert [record.line for record in reading.records] == ([2, 6, 10] if indent else [1, 1, 1])


def test_a_truncated_array_keeps_its_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    rows = [{"instruction": f"u{i}", "output": f"f({i})"} for i in range(3)]
    path.write_text(json.dumps(rows, indent=4)[:-20])
    reading = read_export(path, DataConfig())
    assert (outputs(reading), reasons(reading)) == (["f(0)", "f(1)"], ["truncated"])


def test_a_broken_byte_in_an_array_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    broken = b'[{"instruction":"\xff","output":"a()"},{"instruction":"hi","output":"a()"}]'
    path.write_bytes(broken)
    reading = read_export(path, DataConfig())
    assert (len(reading.records), reasons(reading)) == (1, ["bad-encoding"])


def test_text_after_an_array_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text('[{"instruction":"hi","output":"a()"}] {"instruction":"ho","output":"b()"}')
    reading = read_export(path, DataConfig())
    assert (outputs(reading), kinds(reading)) == (
        ["a()", "b()"],
        ["several-objects", "missing-comma"],
    )
    path.write_text('[\n{"instruction":"hi","output":"a()"}\n,\n\n]\n\n\nzzz')
    reading = read_export(path, DataConfig())
    assert (outputs(reading), reasons(reading)) == (["a()"], ["not-json"])
    assert (reading.rejections[0].line, reading.rejections[0].raw) == (8, "zzz")
    content = path.read_bytes()
    assert content[reading.rejections[0].byte_offset :] == b"zzz"


@pytest.mark.parametrize("indent", [None, 4])
def test_a_broken_row_of_an_array_costs_no_other(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "train.json"
    rows = [{"instruction": f"u{i}", "output": f"f({i})"} for i in range(100)]
    text = json.dumps(rows, indent=indent)
    path.write_text(text.replace('"u40"', '"u "40"'))
    reading = read_export(path, DataConfig())
    assert (len(reading.records), reasons(reading)) == (99, ["not-json"])
    assert '"u "40"' in reading.rejections[0].raw
    assert reading.rejections[0].line == (1 + 40 * 4 + 1 if indent else 1)


def test_joined_arrays_and_forgotten_commas_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    row = '{"instruction":"hi","output":"a()"}'
    path.write_text(f"[{row},\n{row}]\n[{row}\n{row}]")
    reading = read_export(path, DataConfig())
    assert outputs(reading) == ["a()"] * 4
    assert kinds(reading) == ["several-objects", "missing-comma"]
    assert len(reading.rejections) == 0
    strict = read_export(path, DataConfig(tolerate=()))
    assert (outputs(strict), reasons(strict)) == (["a()"] * 3, ["several-objects"])


@pytest.mark.parametrize("separator", ["", " ", "\r"])
def test_every_object_of_a_long_line_is_read(tmp_path: Path, separator: str) -> None:
    objects = [json.dumps(row(f"u{n}", label_1=survey(f"f({n})"))) for n in range(2_000)]
    (tmp_path / "export.manifest").write_bytes(separator.join(objects).encode())
    reading = read_export(tmp_path / "export.manifest", DataConfig())
    assert outputs(reading) == [f"f({n})" for n in range(2_000)]
    assert not reading.rejections


def test_objects_after_a_broken_one_on_its_line_are_read(tmp_path: Path) -> None:
    first, second, third = (json.dumps(row(label_1=survey(o))) for o in ("a()", "b()", "c()"))
    reading = read(tmp_path, f"{first}{second[:-3]}}}{third}")
    assert (outputs(reading), reasons(reading)) == (["a()", "c()"], ["not-json"])


@pytest.mark.parametrize(
    "label",
    [
        {"results": [{"data": "a()", "markTitle": "output"}, *[0] * 100_000]},
        survey("a();" * 50_000),
    ],
)
def test_endless_results_and_answers_cost_a_rejection(tmp_path: Path, label: Any) -> None:
    reading = read(tmp_path, row(label_1=label), row(label_1=survey("a()")))
    assert outputs(reading) == ["a()"]
    assert len(reading.rejections[0].message) < 200


def test_many_votes_are_told_in_short(tmp_path: Path) -> None:
    reading = read(tmp_path, row(label_1=survey(*(f"a({i})" for i in range(900)))))
    assert reasons(reading) == ["annotators-disagree"]
    assert reading.rejections[0].message.endswith("and 895 more: agree on one answer")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n \r\n", b"[]"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.manifest"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"empty\.manifest does not contain rows: export"):
        read_export(path, DataConfig())


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.manifest cannot be read .*: check the path"):
        read_export(tmp_path / "none.manifest", DataConfig())
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(gzip.compress(b"{}" * 100)[:-12])
    with pytest.raises(DataError, match=r"damaged\.gz is a damaged gzip file"):
        read_export(damaged, DataConfig())


def test_a_broken_byte_that_nobody_reads_does_not_matter(tmp_path: Path) -> None:
    good = json.dumps({**row(label_1=survey("a()")), "note": "?"}).encode()
    reading = read(tmp_path, good, good.replace(b"?", b"\xff"))
    assert outputs(reading) == ["a()", "a()"]


def test_utf_16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.manifest"
    path.write_text(json.dumps(row("开灯", label_1=survey("a()"))), encoding="utf-16")
    (record,) = read_export(path, DataConfig()).records
    assert (record.utterance, record.output) == ("开灯", "a()")


def test_a_trailing_comma_is_read_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(
        '[\n{"instruction":"hi","output":"a()"},\n{"instruction":"ho","output":"b()"},\n]'
    )
    reading = read_export(path, DataConfig())
    assert (outputs(reading), kinds(reading)) == (["a()", "b()"], ["trailing-comma"])
    assert reading.reports[0].line == 3
    strict = read_export(path, DataConfig(tolerate=()))
    assert (outputs(strict), reasons(strict)) == (["a()"], ["trailing-comma"])


def test_a_line_of_50_mb_is_a_row_like_another(tmp_path: Path) -> None:
    long = json.dumps({**row("long", label_1=survey("a()")), "note": "x" * (50 << 20)})
    good = json.dumps(row(label_1=survey("b()")))
    broken = "[" * (50 << 20)
    reading = read(tmp_path, good, long, broken, good)
    assert (outputs(reading), reasons(reading)) == (["b()", "a()", "b()"], ["not-json"])
    assert [record.line for record in reading.records] == [1, 2, 4]
    assert reading.records[-1].byte_offset == len(good) + len(long) + len(broken) + 3


def test_an_endless_line_costs_a_rejection_not_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_LINE_BYTES", 1 << 20)
    good = json.dumps(row(label_1=survey("a()")))
    endless = '{"data": "' + "x" * (3 << 20)
    reading = read(tmp_path, good, endless, good)
    assert (outputs(reading), reasons(reading)) == (["a()", "a()"], ["too-long"])
    assert reading.rejections[0].line == 2
    assert reading.records[1].line == 3
    assert reading.records[1].byte_offset == len(good) + len(endless) + 2
    at_the_end = read(tmp_path, good, endless)
    assert reasons(at_the_end) == ["too-long"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("more", [{}, {"version": 2, "name": "labels"}])
def test_an_object_that_wraps_the_rows_is_unwrapped(
    tmp_path: Path, indent: int | None, more: dict[str, Any]
) -> None:
    rows = [{"instruction": f"u{n}", "output": f"f({n})"} for n in range(3)]
    (tmp_path / "wrapped.json").write_text(json.dumps({**more, "data": rows}, indent=indent))
    assert outputs(read_export(tmp_path / "wrapped.json", DataConfig())) == [
        "f(0)",
        "f(1)",
        "f(2)",
    ]


@pytest.mark.parametrize("indent", [None, 1])
def test_one_conversation_is_a_row(tmp_path: Path, indent: int | None) -> None:
    turns = [{"role": "user", "content": "stop"}, {"role": "assistant", "content": "off()"}]
    (tmp_path / "chat.json").write_text(json.dumps({"messages": turns}, indent=indent))
    assert outputs(read_export(tmp_path / "chat.json", DataConfig())) == ["off()"]
