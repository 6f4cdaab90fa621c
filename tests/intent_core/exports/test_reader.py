"""iTAG exports: every row becomes the expected record or rejection."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.exports.reader import read_export
from intent_core.exports.records import check_rejections
from intent_core.recipe.config import DataConfig
from tests.support.builders.export_rows import outputs, read, reasons, row, survey

DATA = Path(__file__).parents[2] / "data"


# The reader keeps duplicates; the dataset build drops them.
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


@pytest.mark.parametrize(
    "odd",
    [
        {**row(label_1=survey("a()")), "__class__": {"__init__": "os.system"}},
        {**row(label_1=survey("a()")), "__proto__": None, "": {}, "label-": {}},
        {**row(label_1=survey("a()")), "big": 10**400},
        {"data": {"instruction": "hi", "__class__": 1}, "label-1": survey("a()")},
        row(label_1={**survey("a()"), "__reduce__": ["os.system"]}),
    ],
)
def test_odd_keys_and_numbers_are_nothing_to_a_row(tmp_path: Path, odd: Any) -> None:
    good = row(label_1=survey("a()"))
    huge = json.dumps(good)[:-1] + ', "n": ' + "9" * 6000 + "}"
    assert outputs(read(tmp_path, good, good, odd, huge)) == ["a()"] * 4


def test_a_row_of_nothing_but_odd_keys_is_a_rejection(tmp_path: Path) -> None:
    reading = read(tmp_path, row(label_1=survey("a()")), {"__class__": {}, "label-1-check": 1e999})
    assert (outputs(reading), reasons(reading)) == (["a()"], ["no-utterance"])


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
        # The rows are at the reported offsets.
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
    assert message.index("2 x unlabelled, e.g. export.manifest:2: ") < message.index("1 x not-json")
    assert "data.max_rejection_rate" in message
