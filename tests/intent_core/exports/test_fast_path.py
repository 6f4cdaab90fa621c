"""The fast path gives the same record as the normal reader, or none."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.exports.annotators import ITAG_KEYS
from intent_core.exports.fast_path import UsualRows
from intent_core.exports.reader import read_answer
from intent_core.exports.row_answer import RowAnswer
from intent_core.exports.typed_quotes import may_have_typed_quotes, rewrite_typed_quotes
from intent_core.language.calls import is_ordinary, is_plain
from intent_core.language.invisible import may_have_invisible
from intent_core.recipe.config import DataConfig

DATA = Path(__file__).parents[2] / "data"
CONFIG = DataConfig()


def result(answer: Any, is_survey: bool, **fields: Any) -> dict[str, Any]:
    if is_survey:
        return {"data": answer, "markTitle": "output", "questionId": "2", **fields}
    mark = {"tabId": "x", "annotations": [{"id": None, "labels": {"output": answer}}]}
    return {"MarkTitle": "form", "MarkResult": json.dumps(mark), "Version": "17", **fields}


def make_row(answer: str, is_survey: bool = False, **keys: Any) -> dict[str, Any]:
    label = {"results": [result(answer, is_survey)], "abandonFlag": 0}
    usual = {"data": {"instruction": "hi", "_itag_index": ""}, "label-1": label, "abandonFlag": 0}
    return {**usual, **keys}


def taught(*rows: dict[str, Any], config: DataConfig = CONFIG) -> UsualRows:
    usual = UsualRows("e", config)
    for row in rows:
        answer = read_answer(row, config)
        assert isinstance(answer, RowAnswer)
        usual.learn(json.dumps(row).encode(), row, answer)
    return usual


def agrees(usual: UsualRows, line: bytes, config: DataConfig = CONFIG) -> bool:
    """Return whether the fast path read the row; check that its record is that of the reader."""
    read = usual.read(line, 7, 70)
    if read is None:
        return False
    answer = read_answer(json.loads(line), config)
    assert isinstance(answer, RowAnswer), answer
    assert not answer.notes
    assert (read.utterance, read.output, read.stage, read.version, read.mark_result) == (
        *(answer.utterance, answer.output, answer.stage),
        *(answer.version, answer.mark_result),
    )
    assert read.annotator == answer.annotator
    assert (read.source, read.line, read.byte_offset, read.notes) == ("e", 7, 70, ())
    return True


@pytest.mark.parametrize("kind", ["survey", "open-group"])
@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_nearly_all_rows_of_an_export_are_usual(name: str, kind: str) -> None:
    lines = (DATA / name / f"export-{kind}.manifest").read_bytes().splitlines()
    usual = taught(json.loads(lines[0]))
    assert sum(agrees(usual, line) for line in lines) > 0.98 * len(lines)


@pytest.mark.parametrize("name", ["snips_en", "crosswoz_zh"])
def test_a_dirty_export_is_never_read_wrongly(name: str) -> None:
    usual, num_fast = taught(make_row("a()")), 0
    for line in (DATA / name / "export-dirty.manifest").read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            assert usual.read(line, 1, 0) is None
            continue
        num_fast += agrees(usual, line)
        answer = read_answer(row, CONFIG)
        if isinstance(answer, RowAnswer):
            usual.learn(line, row, answer)
    assert num_fast > 0


STAGES = st.sampled_from(["label-1", "label-1-check", "label-1-verify", "label-1-system"])
ANSWERS = st.sampled_from(
    ["a()", "b(x)", "a(杭州)", "a(x", "a", "", None, ["a()"], 'a("x")', 'a(")', "a(\\)", "a (x)", 7]
) | st.text(max_size=6)
FLAGS = st.sampled_from([0, 1, True, False, None, "0", "1", "false", 2, 0.0])
BARE = st.builds(
    lambda answer, title: {"MarkResult": answer, "MarkTitle": title},
    st.sampled_from(["a()", "clear()", "b(x)"]),
    st.sampled_from(["output", "remark"]),
)
PEOPLE = st.sampled_from(["li", 17, "", None, True, " li ", "a\nb", {"id": 3}, "x" * 200])
RESULTS = st.builds(
    lambda people, *fields, **named: result(*fields, **named, **people),
    st.dictionaries(st.sampled_from(ITAG_KEYS), PEOPLE, max_size=2),
    ANSWERS,
    st.booleans(),
    Version=st.sampled_from(["17", 17, "x", None, -1, "007", 10**18, 1.0, "1" * 30, "-0"]),
    MarkResultId=st.sampled_from(["17", 17, "x-1", None, True, 1.0, "", "1" * 65, "é"]),
    data=st.just("a()") | ANSWERS,
) | st.builds(result, ANSWERS, st.booleans(), markTitle=st.sampled_from(["output", "other", None]))
LABELS = st.none() | st.fixed_dictionaries(
    {"results": st.lists(st.builds(result, ANSWERS, st.booleans()) | RESULTS | BARE, max_size=2)},
    optional={"abandonFlag": FLAGS, "fixedFlag": FLAGS},
)
ROWS = st.builds(
    lambda labels, rest: {**rest, **labels},
    st.dictionaries(STAGES | st.just("label-2"), LABELS, max_size=3),
    st.fixed_dictionaries(
        {"data": st.fixed_dictionaries({"instruction": st.just("hi") | st.text(max_size=3)})},
        optional={"abandonFlag": FLAGS, "note": st.none() | st.text(max_size=2)},
    )
    | st.dictionaries(st.text(max_size=3), st.none(), max_size=1).map(
        lambda odd: {**odd, "data": {"instruction": "hi"}}
    ),
)


@given(
    rows=st.lists(ROWS, max_size=6),
    is_survey=st.booleans(),
    stages=st.permutations(["verify", "check", "label", "system"]).map(lambda s: tuple(s[:3])),
)
def test_it_never_says_anything_else(
    rows: list[dict[str, Any]], is_survey: bool, stages: tuple[Any, ...]
) -> None:
    config = DataConfig(stages=stages)
    usual = UsualRows("e", config)
    for row in [make_row("a(x)", is_survey), *rows, *rows]:
        line = json.dumps(row).encode()
        if not agrees(usual, line, config):
            answer = read_answer(json.loads(line), config)
            if isinstance(answer, RowAnswer):
                usual.learn(line, json.loads(line), answer)


@pytest.mark.parametrize("key", ['na"me', "a\\b", "tab\t", "\x00", "键", "label-"])
def test_keys_that_json_escapes_are_read_the_thorough_way(key: str) -> None:
    usual = taught(make_row("a()", **{key: 1}), make_row("a()"))
    is_fast = agrees(usual, json.dumps(make_row("b()", **{key: 1})).encode())
    assert is_fast == (key in ("键", "label-"))


def test_the_bare_answer_to_another_question_is_not_the_label() -> None:
    def bare(answer: str, title: str) -> dict[str, Any]:
        marked = {"results": [{"MarkResult": answer, "MarkTitle": title}]}
        return {"data": {"instruction": "hi"}, "label-1": marked}

    usual = taught(bare("a()", "output"))
    assert usual.read(json.dumps(bare("clear()", "remark")).encode(), 1, 0) is None


@pytest.mark.parametrize("version", [1000.0, 1e3, "-0", "1.0", "1e3", "007", -1, "17", 17, None])
def test_versions_are_read_alike(version: Any) -> None:
    """A layout is learned from one row: the fast path reads the version of the second correctly."""
    row = make_row("b()")
    row["label-1"]["results"][0]["Version"] = version
    usual = taught(make_row("a()"), row)
    is_fast = agrees(usual, json.dumps(row).encode())
    assert is_fast or version not in ("17", 17)


def test_rows_of_another_look_are_learned() -> None:
    usual = taught(make_row("a()", is_survey=True))
    other = make_row("b(y)")
    assert not agrees(usual, json.dumps(other).encode())
    other_job = json.loads(json.dumps(other).replace("label-1", "label-2"))
    usual = taught(make_row("a()", is_survey=True), other_job)
    assert agrees(usual, json.dumps(other_job).encode())


def test_annotators_are_read_on_the_fast_path() -> None:
    def by(answer: str, **people: Any) -> bytes:
        row = make_row(answer)
        row["label-1"]["results"][0] |= people
        return json.dumps(row).encode()

    usual = taught(json.loads(by("a()", UserName="li")))
    assert agrees(usual, by("b()", UserName="wang", UserId=3))
    # The thorough reader takes another key for these.
    assert not agrees(usual, by("b()", UserName="wang", annotator="li"))
    assert not agrees(usual, by("b()", UserName="", UserId=3))
    assert not agrees(taught(make_row("a()")), by("b()", UserName="li"))


def test_a_label_under_a_key_never_seen_is_not_passed_over() -> None:
    usual = taught(make_row("a()"))
    verify = {"results": [result("b()", False)]}
    assert not agrees(usual, json.dumps(make_row("a()", **{"label-1-verify": verify})).encode())


def test_rows_that_never_look_alike_are_not_learned_for_ever() -> None:
    usual = taught(*(make_row("a()", **{f"key-{number}": 1}) for number in range(100)))
    assert not agrees(usual, json.dumps(make_row("a()", **{"key-99": 1})).encode())


@given(
    st.text("ab歌é'’`´“\"《\u200b\u00ad\ufe0f\u3000 ", max_size=6),
    st.text("ab歌é'’`´“\"《\u200b\u00ad\ufe0f\u3000 ,", max_size=12),
)
def test_an_ordinary_label_needs_no_further_check(intent: str, values: str) -> None:
    label = f"{intent}({values})"
    if is_ordinary(label):
        assert is_plain(label)
        assert not may_have_typed_quotes(label)
        assert not may_have_invisible(label)


@given(st.text("ab歌'’“\"《` ,=", max_size=14))
def test_an_apostrophe_within_a_word_is_no_quote(values: str) -> None:
    label = f"f({values})"
    within = re.sub(r"(?<=\w)[’'](?=\w)", "", label)
    if is_plain(label) and not may_have_typed_quotes(within):
        assert rewrite_typed_quotes(label) == label


@given(st.text("ab歌\"\\'é ,()=;", max_size=16))
def test_a_label_without_typed_quotes_is_not_rewritten(text: str) -> None:
    if not may_have_typed_quotes(text):
        assert rewrite_typed_quotes(text) == text
