"""iTAG exports: every row becomes a record or a rejection, and the right one."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intent_core import blocks
from intent_core.config import DataConfig
from intent_core.errors import DataError
from intent_core.itag import read_export
from intent_core.records import ExportReading, check_rejections

DATA = Path(__file__).parent.parent / "data"


def survey(*answers: Any, title: str = "output") -> dict[str, Any]:
    return {"results": [{"data": answer, "markTitle": title} for answer in answers]}


def row(utterance: Any = "hi", **labels: Any) -> dict[str, Any]:
    keys = {name.replace("_", "-"): label for name, label in labels.items()}
    return {"data": {"instruction": utterance}, **keys}


def read(tmp_path: Path, *rows: Any, config: DataConfig | None = None) -> ExportReading:
    """Read rows given as values, as text or as bytes, one a line."""
    path = tmp_path / "export.manifest"
    lines = [
        r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode()
        for r in rows
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return read_export(path, config or DataConfig())


def outputs(reading: ExportReading) -> list[str]:
    return [record.output for record in reading.records]


def reasons(reading: ExportReading) -> list[str]:
    return [rejection.reason for rejection in reading.rejections]


def kinds(reading: ExportReading) -> list[str]:
    return [report.kind for report in reading.reports]


# Duplicates are the dataset's business.
ELSEWHERE = {"exact-duplicate", "conflicting-duplicate"}


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_dirty_export_is_treated_as_its_lines_say(name: str) -> None:
    reading = read_export(DATA / name / "export-dirty.manifest", DataConfig())
    lines = json.loads((DATA / name / "export-dirty.lines.json").read_text("utf-8"))
    checked = 0
    for line in lines:
        if line["kind"] in ELSEWHERE:
            assert not line["certain"]
            continue
        records = [r for r in reading.records if r.line == line["line"]]
        refused = [r for r in reading.rejections if r.line == line["line"]]
        reported = [r for r in reading.reports if r.line == line["line"]]
        if line["want"] in ("keep", "fix"):
            assert [(r.utterance, r.output) for r in records] == [
                (line["expect"]["instruction"], line["expect"]["output"])
            ], line
        elif line["want"] == "drop":
            assert not records, line
            assert len(refused) == (line["kind"] != "blank"), line
        else:
            assert refused or reported, line
        checked += 1
    assert checked > 100


def test_titles_and_fields_are_settings(tmp_path: Path) -> None:
    other = {"data": {"text": "hi"}, "label-1": survey("a()", title="意图")}
    assert reasons(read(tmp_path, other)) == ["no-utterance"]
    by_field = read(tmp_path, other, config=DataConfig(utterance_field="text"))
    assert reasons(by_field) == ["no-answer"]
    assert "意图" in by_field.rejections[0].message
    config = DataConfig(utterance_field="text", question_title="意图")
    assert outputs(read(tmp_path, other, config=config)) == ["a()"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not-json"),
        ("[" * 100_000, "not-json"),
        ('{"data": ' + "9" * 5000, "not-json"),
        (b'{"data":{"instruction":"\xff\xfe"}}', "bad-encoding"),
        (b'\x00{"data":{}}', "not-json"),
        ("[]", "not-an-object"),
        ("null", "not-an-object"),
        (row(None, label_1=survey("a()")), "no-utterance"),
        (row(" \n", label_1=survey("a()")), "empty-utterance"),
        (r'{"data":{"instruction":"x\ud800"},"label-1":{"results":[]}}', "bad-characters"),
        (row("a\x00b", label_1=survey("a()")), "bad-characters"),
        (row(), "unlabelled"),
        (row(label_1=None), "unlabelled"),
        (row(label_1={"results": None}), "unlabelled"),
        (row(label_1=7), "bad-label"),
        (row(label_1={"results": {"0": 1}}), "bad-label"),
        (row(label_1={"results": [7]}), "bad-label"),
        (row(label_1={"results": [{"MarkResult": '{"annotations": ['}]}), "bad-label"),
        (row(label_1=survey({"a": 1})), "bad-label"),
        (row(label_1=survey(["a()", "b()"])), "bad-label"),
        (row(label_1=survey("a()", title="quality")), "no-answer"),
        (row(label_1=survey("")), "empty-answer"),
        (row(label_1=survey("a")), "bare-intent"),
        (row(label_1=survey("a;b")), "bad-calls"),
        ({"instruction": "hi", "output": None}, "empty-answer"),
        ({"instruction": "hi", "output": 7}, "bad-label"),
    ],
)
def test_a_bad_row_is_a_rejection_and_costs_no_other(tmp_path: Path, bad: Any, reason: str) -> None:
    good = row(label_1=survey("a()"))
    reading = read(tmp_path, good, bad, good)
    assert reasons(reading) == [reason]
    assert outputs(reading) == ["a()", "a()"]
    assert reading.rejections[0].line == 2
    assert reading.rejections[0].byte_offset == len(json.dumps(good)) + 1
    assert len(reading.rejections[0].raw) <= 2000


def test_lone_surrogates_elsewhere_do_not_matter(tmp_path: Path) -> None:
    text = json.dumps({**row(label_1=survey("a()")), "note": "\ud800"})
    assert outputs(read(tmp_path, text)) == ["a()"]


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
    assert (outputs(reading), reasons(reading)) == (["a()"], ["not-json"])


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n \r\n", b"[]"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.manifest"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"empty\.manifest holds no rows: export"):
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


def test_utf_16_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "export.manifest"
    path.write_text(json.dumps(row(label_1=survey("a()"))), encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16: save it as UTF-8"):
        read_export(path, DataConfig())


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


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_both_formats_say_the_same_and_may_be_mixed(tmp_path: Path, name: str) -> None:
    wanted = json.loads((DATA / name / "export.json").read_text("utf-8"))
    survey_rows, open_rows = (
        (DATA / name / f"export-{kind}.manifest").read_bytes().splitlines()
        for kind in ("survey", "open-group")
    )
    pairs = zip(survey_rows, open_rows, strict=True)
    mixed = [pair[index % 2] for index, pair in enumerate(pairs)]
    for rows in (survey_rows, open_rows, mixed):
        reading = read(tmp_path, *rows)
        said = [{"instruction": r.utterance, "output": r.output} for r in reading.records]
        assert said == wanted
        assert [record.line for record in reading.records] == list(range(1, len(rows) + 1))
        # The offsets lead back to the rows.
        content = (tmp_path / "export.manifest").read_bytes()
        assert all(content[r.byte_offset :].startswith(b'{"data":') for r in reading.records)


KEYS = ["data", "instruction", "label-1", "label-1-verify", "results", "markTitle", "output"]
KEYS += ["MarkResult", "annotations", "labels", "abandonFlag", "abandonRemark", "Version"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("a(x)"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON, min_size=1, max_size=3), noise=st.binary(max_size=20))
def test_no_content_raises(tmp_path: Path, values: list[Any], noise: bytes) -> None:
    labelled = [row(label_1={"results": [value]}, label_1_verify=value) for value in values]
    texts = [json.dumps(value) for value in (*values, *labelled)]
    reading = read(tmp_path, "{}", *texts, b"{" + noise)
    assert reading.tally.num_objects >= 2 + 2 * len(values)


def test_check_rejections_names_reasons_places_and_remedy(tmp_path: Path) -> None:
    reading = read(tmp_path, "{", row(), row(), row(label_1=survey("a()")))
    path = tmp_path / "export.manifest"
    check_rejections(reading.tally, path, 0.75)
    with pytest.raises(DataError) as caught:
        check_rejections(reading.tally, path, 0.74)
    message = str(caught.value)
    assert "3 of 4 rows" in message
    assert message.index("2 x unlabelled, as in export.manifest:2: ") < message.index(
        "1 x not-json"
    )
    assert "data.max_rejection_rate" in message
