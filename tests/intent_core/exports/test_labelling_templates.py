"""iTAG's other templates: choices, several questions, groups, trees, entity marking."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.exports.files.json_rows import RowFault
from intent_core.exports.reader import read_answer, read_export
from intent_core.exports.row_answer import RowAnswer
from intent_core.recipe.config import DataConfig, Template

CASE = Path(__file__).parents[2] / "data/cases/14-itag-other-templates"
TEMPLATE = Template(intent="intent", slots=("city", "day"))
ENTITY = {"objects": [{"result": {"NER": ["city"]}, "text": "杭州", "start": 0, "end": 2}]}


def older(title: str, answer: Any) -> dict[str, Any]:
    return {"questionId": "3", "data": answer, "markTitle": title, "type": "survey/value"}


def newer(*labels: dict[str, Any], encode: Any = json.dumps) -> dict[str, Any]:
    mark = {"annotations": [{"id": None, "labels": each, "exif": None} for each in labels]}
    return {"MarkTitle": "x", "MarkResult": encode(mark), "ResultType": "OPEN_GROUP"}


def label(*results: Any, **more: list[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"data": {"instruction": "x"}, "label-17": {"results": list(results)}}
    return row | {f"label-17-{stage}": {"results": given} for stage, given in more.items()}


def read(row: dict[str, Any], **config: Any) -> str:
    """Return the calls, or the reason why the row is rejected."""
    answer = read_answer(row, DataConfig(**config))
    return answer.output if isinstance(answer, RowAnswer) else answer.reason


def explain(row: dict[str, Any], **config: Any) -> str:
    fault = read_answer(row, DataConfig(**config))
    assert isinstance(fault, RowFault)
    return fault.message


def test_the_case_has_its_right_values() -> None:
    chosen = read_export(CASE / "classification.manifest", DataConfig(utterance_field="content"))
    assert [record.output for record in chosen.records] == ["volume_down()"]
    entities = read_export(CASE / "entities.manifest", DataConfig())
    assert "entity result" in entities.rejections[0].message
    composed = read_export(CASE / "two_questions.manifest", DataConfig(template=TEMPLATE))
    assert [record.output for record in composed.records] == ["weather_search(杭州)"]
    (named,) = read_export(CASE / "two_questions.manifest", DataConfig()).rejections
    assert "'intent', 'city'" in named.message
    assert "data.template" in named.message


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ([{"data": "a", "id": 1, "type": "survey/value"}], "a()"),
        ([{"data": "a"}, {"data": "b"}], "a();b()"),
        ([{"value": "a"}, {"value": "b(x)"}], "a();b(x)"),
        (["a"], "a()"),
        (["a", "b"], "a();b()"),
        ({"value": "a"}, "a()"),
        ([{"data": [{"data": "a"}, {"data": [{"data": "b"}]}]}], "a();b()"),
        ([{"value": "group", "children": [{"value": "a"}]}], "a()"),
        ([["group", "a"]], "group();a()"),
        (["a(x)"], "a(x)"),
        ("a(x)", "a(x)"),
        ("a", "bare-intent"),
        ([], "empty-answer"),
        ({}, "empty-answer"),
        ([None], "empty-answer"),
        ([{"data": None}], "empty-answer"),
        ([{"data": ""}, {"data": " "}], "empty-answer"),
        (None, "empty-answer"),
        ("", "empty-answer"),
        ([{"data": 5}], "bad-label"),
        ([{"other": "a"}], "bad-label"),
        ([{"type": "image/polygon", "value": [[1.0, 2.0]]}], "bad-label"),
        (5, "bad-label"),
        (True, "bad-label"),
        (["a", "b(x)"], "a();b(x)"),
        (["a(x)", "b()"], "bad-label"),
        ([{"data": "not a name"}], "bad-calls"),
    ],
)
def test_a_choice_in_every_shape(answer: Any, output: str) -> None:
    for result in (older("output", answer), newer({"output": answer}), {"data": answer}):
        assert read(label(result)) == output


def test_a_choice_is_reported_and_can_be_refused() -> None:
    row = label(older("output", [{"data": "a"}]))
    answer = read_answer(row, DataConfig())
    assert isinstance(answer, RowAnswer)
    assert [note.kind for note in answer.notes] == ["choice-answer"]
    assert read(row, tolerate=()) == "choice-answer"


@pytest.mark.parametrize(
    ("answers", "output"),
    [
        ({"intent": "w", "city": "杭州", "day": "今天"}, "w(杭州,今天)"),
        ({"day": "今天", "city": "杭州", "intent": "w"}, "w(杭州,今天)"),
        ({"intent": ["w"], "city": ["杭州"]}, "w(杭州)"),
        ({"intent": [{"data": "w"}], "city": [{"data": "杭州"}, {"data": "上海"}]}, "w(杭州,上海)"),
        ({"intent": "w"}, "w()"),
        ({"intent": "w", "city": None, "day": ""}, "w()"),
        ({"intent": "w", "city": [], "day": "今天"}, "w(今天)"),
        ({"intent": "w", "city": "a, b"}, 'w("a, b")'),
        ({"intent": "w", "city": "a＝b"}, 'w("a＝b")'),
        ({"intent": "w", "city": "x=y"}, 'w("x=y")'),
        ({"intent": "w", "city": "“杭州”"}, "w(杭州)"),
        ({"intent": "w(杭州)"}, "w(杭州)"),
        ({"intent": "w()", "city": "杭州"}, "w(杭州)"),
        ({"intent": "w();v()"}, "w();v()"),
        ({"intent": ["w", "v(x)"]}, "w();v(x)"),
        ({"intent": ["w", "v"]}, "w();v()"),
        ({"intent": ["w", "v"], "city": "杭州"}, "bad-calls"),
        ({"intent": "w(杭州)", "city": "杭州"}, "bad-calls"),
        ({"intent": "not a name"}, "bad-calls"),
        ({"intent": ""}, "empty-answer"),
        ({"intent": None, "city": "杭州"}, "empty-answer"),
        ({"city": "杭州"}, "empty-answer"),
        ({"intent": "w", "city": 5}, "bad-label"),
        ({"intent": "w", "city": {"a": 1}}, "bad-label"),
        ({"other": "w"}, "no-answer"),
    ],
)
def test_several_questions_in_every_shape(answers: dict[str, Any], output: str) -> None:
    one_by_one = [older(title, answer) for title, answer in answers.items()]
    for results in (
        one_by_one,
        [newer(answers)],
        [newer(answers, encode=lambda mark: mark)],
        [newer(*({title: answer} for title, answer in answers.items()))],
        [newer({title: answer}) for title, answer in answers.items()],
        [{"data": one_by_one, "type": "survey"}],
        [{"data": [{"data": one_by_one, "markTitle": "group"}]}],
    ):
        assert read(label(*results), template=TEMPLATE) == output


def test_messages_name_the_questions_of_the_template() -> None:
    config = {"template": TEMPLATE}
    assert "'intent'; the titles are 'other'" in explain(label(older("other", "w")), **config)
    both = label(older("intent", ["w", "v"]), older("city", "x"))
    assert "'intent' has 2 answers" in explain(both, **config)
    assert "'intent' has no answer" in explain(label(older("city", "x")), **config)


def test_a_question_that_the_template_leaves_out_is_reported() -> None:
    row = label(newer({"intent": "w", "citty": "杭州", "rating": 5, "note": ""}))
    answer = read_answer(row, DataConfig(template=TEMPLATE))
    assert isinstance(answer, RowAnswer)
    (note,) = answer.notes
    assert (note.kind, "'citty'" in note.message) == ("unread-field", True)


def test_another_question_costs_no_row() -> None:
    for other in (ENTITY, older("rating", 5), older("box", [{"value": [[1.0]]}]), newer({"n": 5})):
        for row in (label(older("output", "a()"), other), label(other, newer({"output": "a()"}))):
            answer = read_answer(row, DataConfig())
            assert isinstance(answer, RowAnswer)
            assert (answer.output, answer.notes) == ("a()", ())
    assert read(label(newer({"output": "a()", "rating": 5, "flag": True}))) == "a()"


@pytest.mark.parametrize(
    "result",
    [
        ENTITY,
        {"objects": [], "empty": True},
        {**ENTITY, "relations": []},
        {"MarkResult": [{"labels": {"NER": ["city"]}, "exif": {"start": 0, "end": 2}}]},
        {
            "MarkResult": json.dumps(
                {"annotations": [{"labels": {"NER": "c"}, "start": 0, "end": 2}]}
            )
        },
    ],
)
def test_entity_marking_is_named(result: dict[str, Any]) -> None:
    for config in ({}, {"template": TEMPLATE}):
        row = label(result)
        assert read(row, **config) == "bad-label"
        assert "entity result" in explain(row, **config)


@pytest.mark.parametrize(
    ("results", "output"),
    [
        ([{"intent": "w"}, {"intent": "v", "city": "x"}], "w()"),
        ([{"intent": "v", "city": "x"}, {"intent": "w"}], "v(x)"),
        ([{"intent": "w", "city": "x"}, {"intent": "w", "city": "y"}], "w(x)"),
        ([{"city": "x", "intent": "w"}, {"intent": "v"}], "w(x)"),
    ],
)
def test_answers_of_annotators_are_not_mixed(results: list[dict[str, str]], output: str) -> None:
    for row in (
        label(*map(newer, results)),
        label(*({"data": [older(*item) for item in each.items()]} for each in results)),
        label(*(older(*item) for each in results for item in each.items())),
    ):
        assert read(row, template=TEMPLATE, annotators="first") == output
        assert read(row, template=TEMPLATE) == "annotators-disagree"


def test_answers_by_question_belong_to_the_annotators_in_order() -> None:
    row = label(older("intent", "w"), older("intent", "v"), older("city", "x"), older("city", "y"))
    assert read(row, template=TEMPLATE, annotators="first") == "w(x)"


def test_the_majority_of_several_questions() -> None:
    row = label(*(newer({"intent": "w", "city": city}) for city in ("x", "y", "x")))
    assert read(row, template=TEMPLATE) == "w(x)"


def test_a_review_of_a_slot_alone_is_not_passed_over() -> None:
    results = [older("intent", "w"), older("city", "x")]
    row = label(*results, verify=[older("city", "y")])
    assert read(row, template=TEMPLATE) == "empty-answer"
    row = label(*results, verify=[older("intent", "w"), older("city", "y")])
    assert read(row, template=TEMPLATE) == "w(y)"


def test_deep_nesting_ends() -> None:
    deep: Any = [older("output", "a()")]
    for _ in range(500):
        deep = [{"data": deep, "markTitle": "group"}]
    assert read(label(*deep)) == "bad-label"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "a()", "", "b(x)", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "value", "markTitle", "labels", "objects", "MarkResult"])
            | st.sampled_from(["annotations", "intent", "city", "output", "children", "start"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(anything, max_size=4), st.booleans())
def test_any_result_is_read_or_rejected(results: list[Any], has_template: bool) -> None:
    config = DataConfig(template=TEMPLATE if has_template else None)
    answer = read_answer(label(*results), config)
    assert isinstance(answer, RowAnswer) or answer.message
