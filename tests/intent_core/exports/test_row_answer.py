"""The answer of a row: choice of the job, the stage and the annotator."""

import json
from typing import Any

import pytest

from intent_core.exports.files.json_rows import RowFault
from intent_core.exports.reader import read_answer
from intent_core.exports.row_answer import RowAnswer
from intent_core.recipe.config import DataConfig
from tests.support.builders.export_rows import row, survey


def open_group(answer: str, encode: Any = json.dumps) -> dict[str, Any]:
    mark = {"annotations": [{"id": None, "labels": {"remark": "ok", "output": answer}}]}
    return {
        "results": [{"MarkTitle": "form", "MarkResult": encode(mark), "Version": "1756511438703"}]
    }


def read(row: Any, **config: Any) -> RowAnswer:
    answer = read_answer(row, DataConfig(**config))
    assert isinstance(answer, RowAnswer), answer
    return answer


def refuse(row: Any, **config: Any) -> RowFault:
    refusal = read_answer(row, DataConfig(**config))
    assert isinstance(refusal, RowFault), refusal
    return refusal


def output(answer: RowAnswer) -> str:
    return answer.output


def kinds(answer: RowAnswer) -> list[str]:
    return [note.kind for note in answer.notes]


@pytest.mark.parametrize(
    "encode", [json.dumps, lambda mark: mark, lambda mark: mark["annotations"]]
)
def test_mark_result_as_text_object_or_list(encode: Any) -> None:
    answer = read(row(label_1=open_group("a(x)", encode)))
    assert (output(answer), answer.version) == ("a(x)", 1756511438703)


def test_mark_result_as_the_bare_answer() -> None:
    result = {"MarkTitle": "output", "MarkResult": "a(x)", "ResultType": "INPUT"}
    other = {"MarkTitle": "audio quality", "MarkResult": "clear", "ResultType": "RADIO"}
    assert output(read(row(label_1={"results": [other, result]}))) == "a(x)"


def test_stage_precedence_follows_the_recipe() -> None:
    labelled = row(
        label_1=survey("a()"),
        label_1_check=survey("b()"),
        label_1_verify=survey("c()"),
        label_1_system=survey("c()"),
    )
    default = read(labelled)
    assert (output(default), default.stage) == ("c()", "verify")
    assert kinds(default) == ["stages-disagree", "stages-disagree"]
    assert output(read(labelled, stages=("label", "check", "verify", "system"))) == "a()"


def test_an_empty_stage_gives_way() -> None:
    answer = read(row(label_1=survey("a()"), label_1_verify={"results": []}))
    assert (output(answer), answer.stage) == ("a()", "label")


def test_a_broken_winning_stage_does_not_give_way() -> None:
    broken = {"results": [{"MarkResult": '{"annotations": ['}]}
    assert refuse(row(label_1=survey("a()"), label_1_verify=broken)).reason == "bad-label"


def test_a_broken_label_gives_way_to_a_good_system_answer() -> None:
    broken = {"results": [{"MarkResult": '{"annotations": ['}]}
    answer = read(row(label_1=broken, label_1_system=survey("a()")))
    assert (output(answer), answer.stage) == ("a()", "system")
    assert [note.kind for note in answer.notes] == ["unreadable-result"]


@pytest.mark.parametrize(
    ("answers", "annotators", "expected"),
    [
        (("a()", "b()", "b ()"), "majority", "b()"),
        (("a()", "b()", "b ()"), "first", "a()"),
        (("a()", "a();"), "reject", "a()"),
        (("", "a()", None), "reject", "a()"),
    ],
)
def test_several_annotators(answers: tuple[str, ...], annotators: str, expected: str) -> None:
    assert output(read(row(label_1=survey(*answers)), annotators=annotators)) == expected


@pytest.mark.parametrize(
    ("answers", "annotators"),
    [(("a()", "b()", "b()"), "reject"), (("a()", "b()"), "majority")],
)
def test_annotators_that_nothing_reconciles(answers: tuple[str, ...], annotators: str) -> None:
    refusal = refuse(row(label_1=survey(*answers)), annotators=annotators)
    assert refusal.reason == "annotators-disagree"
    assert "'a()' x1" in refusal.message


@pytest.mark.parametrize("flag", [1, True, "1"])
@pytest.mark.parametrize("in_stage", [True, False])
def test_abandoned_rows_are_refused_with_the_remark(flag: Any, in_stage: bool) -> None:
    abandoned = row(label_1=survey("a()"))
    place = abandoned["label-1"] if in_stage else abandoned
    place.update(abandonFlag=flag, abandonRemark="noise")
    refusal = refuse(abandoned)
    assert (refusal.reason, "'noise'" in refusal.message) == ("abandoned", True)


@pytest.mark.parametrize("flag", [0, False, None, "0"])
def test_rows_not_abandoned_are_kept(flag: Any) -> None:
    assert output(read({**row(label_1=survey("a()")), "abandonFlag": flag})) == "a()"


def test_a_later_job_that_nobody_has_answered_gives_way() -> None:
    answer = read(row(label_9=survey("a()"), label_10={"results": []}))
    assert (output(answer), kinds(answer)) == ("a()", ["several-jobs"])
    named = read(row(label_9=survey("a()"), label_abc=survey("b()")))
    assert output(named) == "a()"


def test_the_later_job_is_read_and_reported() -> None:
    answer = read(row(label_10=survey("b()"), label_9=survey("a()")))
    assert (output(answer), kinds(answer)) == ("b()", ["several-jobs"])


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("a(x", ["missing-parenthesis"]),
        ("a （x）；", ["trailing-semicolon", "full-width"]),
        ("a(x)\n", ["rewritten"]),
        (["a(x)"], ["list-answer"]),
    ],
)
def test_a_changed_answer_is_noted(text: Any, noted: list[str]) -> None:
    answer = read(row(label_1=survey(text)))
    assert (output(answer), kinds(answer)) == ("a(x)", noted)


@pytest.mark.parametrize(
    ("slipped", "kind"),
    [
        (row(label_1=survey("a(x")), "missing-parenthesis"),
        (row(label_1=survey("a(x);")), "trailing-semicolon"),
        (row(label_1=survey("a（x）")), "full-width"),
        (row(label_1=survey(["a(x)"])), "list-answer"),
        (row(label_1=survey("a")), "bare-intent"),
        (row(label_1=open_group("a(x)", lambda mark: mark)), "object-mark-result"),
        (row(label_1=survey("a()"), label_2=survey("b()")), "several-jobs"),
    ],
)
def test_the_recipe_decides_what_is_tolerated(slipped: Any, kind: str) -> None:
    refusal = refuse(slipped, tolerate=())
    assert (refusal.reason, "data.tolerate" in refusal.message) == (kind, True)
    assert kinds(read(slipped, tolerate=(kind,))) == [kind]


def test_a_bare_intent_is_not_tolerated_unasked() -> None:
    assert refuse(row(label_1=survey("repeat"))).reason == "bare-intent"


@pytest.mark.parametrize(
    ("flag", "fixed_flag", "stage"),
    [
        (1, "prefer", "system"),
        (True, "prefer", "system"),
        (0, "prefer", "label"),
        (1, "ignore", "label"),
    ],
)
def test_a_correction_marked_as_such_wins_over_the_label(
    flag: Any, fixed_flag: str, stage: str
) -> None:
    corrected = row(label_1_system={**survey("b()"), "fixedFlag": flag}, label_1=survey("a()"))
    answer = read(corrected, fixed_flag=fixed_flag)
    assert (answer.stage, kinds(answer)) == (stage, ["stages-disagree"])
    assert "'a()'" in answer.notes[0].message
    assert "'b()'" in answer.notes[0].message
    verified = {**corrected, "label-1-verify": survey("c()")}
    assert read(verified, fixed_flag=fixed_flag).stage == "verify"


def test_a_stage_that_is_at_odds_with_itself_disagrees() -> None:
    answer = read(row(label_1=survey("a()", "b()"), label_1_verify=survey("a()")))
    assert (output(answer), kinds(answer)) == ("a()", ["stages-disagree"])
    assert "'b()' x1" in answer.notes[0].message


def test_whose_abandon_flag_counts_is_a_setting() -> None:
    flagged = row(label_1=survey("a()"), label_1_system={**survey("a()"), "abandonFlag": 1})
    assert refuse(flagged).reason == "abandoned"
    assert output(read(flagged, abandoned="row")) == "a()"


@pytest.mark.parametrize(
    "label", ["play(a\0b)", 'play("a\\u0000b")', 'play(x="a\\u0000b")', "p\0()"]
)
def test_a_nul_in_a_label_is_rejected_as_in_an_utterance(label: str) -> None:
    fault = refuse(row(label_1=survey(label)))
    assert fault.reason == "bad-characters"
    assert "NUL" in fault.message
