"""An erased row is recognised in any spelling, and its text is not stored anywhere."""

import hashlib
import hmac
import json
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.datasets.erasure import MESSAGE, ErasedRow, ErasureList
from intent_core.errors import DataError
from intent_core.exports.files.json_rows import Row
from intent_core.exports.files.sources import RowBatch
from intent_core.exports.reader import BlockReader, iter_export, read_answer
from intent_core.exports.records import ExportReading, Record, Rejection, check_rejections
from intent_core.exports.row_answer import RowAnswer
from intent_core.recipe.config import DataConfig
from tests.support.builders.export_rows import read, row, survey
from tests.support.builders.invisible import INVISIBLE
from tests.support.builders.records import DATA, build, many, record, say

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SALT = b"0123456789abcdef"


def forget(*utterances: str, mark_results: tuple[str, ...] = ()) -> ErasureList:
    by_text = [
        ErasedRow(name=f"u{i}", utterance=ErasureList(SALT).digest(text), since=NOW)
        for i, text in enumerate(utterances)
    ]
    by_id = [ErasedRow(name=f"m{one}", mark_result=one, since=NOW) for one in mark_results]
    return ErasureList(SALT, [*by_text, *by_id])


def take_out(some: ErasureList, *items: Record | Rejection) -> tuple[list[Any], set[str]]:
    taken: set[str] = set()
    return list(some.take_out(items, taken)), taken


@pytest.mark.parametrize(
    ("said", "again"),
    [
        ("Call Gwen Carter", "call  gwen　ＣＡＲＴＥＲ "),
        ("给王小明打电话", "给王小明打电话"),
        ("导航到Ｋ１１", "导航到k11"),
        ("给王小明打电话", "给王\u200b小明打电话\ufeff"),
        ("给王小明\u2060打电话", "给王小明打电话"),
    ],
)
def test_any_spelling_is_recognised_and_no_text_is_kept(said: str, again: str) -> None:
    [refused], taken = take_out(forget(said), record(again, "call(x)", 4))
    assert refused == Rejection(
        source="export.manifest",
        line=5,
        byte_offset=400,
        reason="forgotten",
        message=MESSAGE,
        raw="",
    )
    assert taken == {"u0"}


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "打给\u200b王小明", "output": "打电话"},
        row("打给王小明\u200b", label_1=survey("打 电话")),
        {"instruction": "打给", "input": "王小明", "output": "x y"},
        {"instruction": "王小明", "history": [["打给", "谁?"]], "output": "x y"},
        {"messages": [{"role": "user", "content": "打给王小明"}, {"role": "assistant"}]},
    ],
)
def test_a_forgotten_text_is_found_in_rows_that_are_rejected(
    row: dict[str, Any], tmp_path: Path
) -> None:
    whole = "打给\n王小明" if "input" in row else "打给王小明"
    (rejection,) = read(tmp_path, row).rejections
    [refused], taken = take_out(forget(whole), rejection)
    assert (refused.reason, refused.raw, taken) == ("forgotten", "", {"u0"})


@given(st.integers(0, 5), st.sampled_from(INVISIBLE))
def test_a_forgotten_utterance_does_not_train_again(position: int, character: str) -> None:
    typed = "打给王小明"[:position] + character + "打给王小明"[position:]
    row = {"instruction": typed, "output": "打电话()"}
    answer = read_answer(row, DataConfig())
    assert isinstance(answer, RowAnswer)
    [refused], _ = take_out(forget("打给王小明"), record(answer.utterance))
    assert refused.reason == "forgotten"


@given(st.integers(0, 5), st.sampled_from(INVISIBLE))
def test_an_entry_from_before_invisible_characters_were_folded_still_excludes_its_row(
    position: int, character: str
) -> None:
    typed = "打给王小明"[:position] + character + "打给王小明"[position:]
    text = " ".join(unicodedata.normalize("NFKC", typed).casefold().split())
    digest = hmac.new(SALT, text.encode(), hashlib.sha256).hexdigest()
    entries = ErasureList(SALT, [ErasedRow(name="old", utterance=digest, since=NOW)])
    row = {"instruction": typed, "output": "打电话()"}
    items = BlockReader("e", DataConfig()).read(RowBatch([Row(1, 0, "", row)]))
    [refused] = entries.take_out(items.records, set())
    assert isinstance(refused, Rejection) and refused.reason == "forgotten"


def test_others_stay_as_they_are() -> None:
    others = [record("打电话", index=1), record("call Gwen", index=2)]
    assert take_out(forget("给王小明打电话", "call Gwen Carter"), *others) == (others, set())


def test_digests_differ_from_store_to_store() -> None:
    assert ErasureList(b"a").digest("你好") != ErasureList(b"b").digest("你好")
    listed = forget("给王小明打电话").rows[0].model_dump_json()
    assert "王小明" not in listed


def test_an_answers_id_forgets_a_row_whose_text_was_edited() -> None:
    known = Record("new text", "a()", "e", 1, 0, "label", mark_result="1985830268627599361")
    kept = Record("new text", "a()", "e", 2, 0, "label", mark_result="1985830268627599362")
    items, taken = take_out(forget(mark_results=("1985830268627599361",)), known, kept)
    assert [type(item) for item in items] == [Rejection, Record]
    assert taken == {"m1985830268627599361"}


@pytest.mark.parametrize(
    "line",
    [
        row("给王小明打电话", label_1=survey("call(")),
        row(" 给王小明打电话", label_1=survey("call(x)"), abandonFlag=1),
        {"instruction": "给王小明打电话", "output": ""},
        '{"data": {"instruction": "给王小明打电话"}, "label-1": {"results": [',
        json.dumps(row("给王小明打电话", label_1=survey("call("))),
    ],
)
def test_a_row_that_was_no_use_is_bare_of_its_text_too(tmp_path: Path, line: Any) -> None:
    read(tmp_path, line, row("hi", label_1=survey("a()")))
    path = tmp_path / "export.manifest"
    reading = ExportReading(
        forget("给王小明打电话").take_out(iter_export(path, DataConfig()), set())
    )
    assert [r.reason for r in reading.rejections] == ["forgotten"]
    assert "王小明" not in str(reading.rejections) + str(reading.reports) + str(reading.tally)
    assert [r.utterance for r in reading.records] == ["hi"]


def test_half_a_text_that_cannot_be_compared_is_cut_off() -> None:
    broken = Rejection(
        source="e",
        line=1,
        byte_offset=0,
        reason="truncated",
        message="ends",
        raw='{"data": {"instruction": "给王小',
    )
    [kept], taken = take_out(forget("给王小明打电话"), broken)
    assert (kept.raw, kept.reason, taken) == ('{"data": {"instruction": ', "truncated", set())
    assert take_out(ErasureList(b""), broken)[0] == [broken], "without a list nothing changes"


def test_forgotten_rows_are_no_fault_of_the_export(tmp_path: Path) -> None:
    path = DATA / "snips_en" / "export-open-group.manifest"
    texts = [r.utterance for r in iter_export(path, DataConfig()) if isinstance(r, Record)]
    reading = ExportReading(forget(*texts[:50]).take_out(iter_export(path, DataConfig()), set()))
    assert reading.tally.reasons["forgotten"] >= 50
    check_rejections(reading.tally, path, 0.0)
    reading.tally.reasons["bad-calls"] += 1
    reading.tally.num_rejections += 1
    reading.tally.examples["bad-calls"] = "x"
    with pytest.raises(DataError, match="1 of 201 rows") as fault:
        check_rejections(reading.tally, path, 0.0)
    assert "forgotten" not in str(fault.value)


def test_what_was_forgotten_enters_the_fingerprint(tmp_path: Path) -> None:
    """Even if the splits are the same, because the dataset was built without the row."""
    before = build(tmp_path / "1", many(100))
    after = build(tmp_path / "2", many(100), forgotten=("b", "a"))
    again = build(tmp_path / "3", many(100), forgotten=("a", "b"))
    assert (after.forgotten, after.test_fingerprint) == (("a", "b"), before.test_fingerprint)
    assert before.fingerprint != after.fingerprint == again.fingerprint
    assert say(1) in (tmp_path / "1" / "train.jsonl").read_text("utf-8")
