"""Every reason has a message with the next step; text that is not read is reported."""

import re
from typing import Any, get_args

import pytest

from intent_core.exports.files.json_rows import RejectionReason, RowFault
from intent_core.exports.reader import read_answer
from intent_core.exports.row_answer import RowAnswer
from intent_core.recipe.choices import Leniency
from intent_core.recipe.config import DataConfig, Template
from tests.support.builders.export_rows import row, survey

_STEP = re.compile(
    r"(: |; |\. |, )(to use it, )?(correct|remove|label|export|save|agree|shorten|set|check|write|"
    r"choose|ask|add|put|use|join|unpack)\b",
    re.IGNORECASE,
)
_ALPACA = {"instruction": "x", "output": "a()"}


def chat(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], **more}


REFUSED: list[tuple[str, Any, dict[str, Any]]] = [
    ("not-an-object", [], {}),
    ("not-an-object", 7, {}),
    ("no-utterance", {}, {}),
    ("no-utterance", {"x": 1}, {}),
    ("no-utterance", {"data": "x"}, {}),
    ("no-utterance", row(5), {}),
    ("no-utterance", {"data": {"content": "x"}}, {}),
    ("no-utterance", {**_ALPACA, "input": 5}, {}),
    ("no-utterance", {**_ALPACA, "history": 5}, {}),
    ("no-utterance", chat(("boss", "x")), {}),
    ("no-utterance", {"messages": [{"content": "x"}]}, {}),
    ("no-utterance", chat(("user", 5)), {}),
    ("no-utterance", {"predict": "a()", "label": "a()"}, {}),
    ("no-utterance", {"x": "y"}, {"format": "chat"}),
    ("no-utterance", {"x": "y"}, {"format": "label-studio"}),
    ("no-utterance", {"x": "y"}, {"format": "doccano"}),
    ("empty-utterance", row("", label_1=survey("a()")), {}),
    ("bad-characters", row("a\0", label_1=survey("a()")), {}),
    ("bad-encoding", row("a\udcff", label_1=survey("a()")), {}),
    ("abandoned", {**row(label_1=survey("a()")), "abandonFlag": 2}, {}),
    ("abandoned", {**row(label_1=survey("a()")), "abandonFlag": "yes"}, {}),
    ("unlabelled", row(), {}),
    ("unlabelled", row(label_1={"results": []}), {}),
    ("unlabelled", chat(("user", "x")), {}),
    ("unlabelled", {"data": {"text": "x"}, "annotations": []}, {}),
    ("bad-label", row(label_1="a()"), {}),
    ("bad-label", row(label_1=survey(5)), {}),
    ("bad-label", row(label_1={"results": [5]}), {}),
    ("bad-label", row(label_1={"results": [{"MarkResult": "{"}]}), {}),
    ("bad-label", row(label_1={"results": [{"objects": []}]}), {}),
    ("bad-label", row(label_1={"results": [{"data": "a()"}] * 1001}), {}),
    ("bad-label", {"text": "x", "label": [[0, 1, "city"]]}, {}),
    ("no-answer", row(label_1=survey("a()", title="other")), {}),
    ("no-answer", {"instruction": "x", "response": "a()"}, {}),
    ("empty-answer", row(label_1=survey("")), {}),
    ("empty-answer", row(label_1=survey("x", title="city")), {"template": True}),
    ("annotators-disagree", row(label_1=survey("a()", "b()")), {}),
    ("bad-calls", row(label_1=survey("a(b")), {"tolerate": ("bare-intent",)}),
    ("bad-calls", row(label_1=survey("make it quiet")), {}),
    ("bad-calls", row(label_1=survey("a" * 30_000)), {}),
    ("bad-calls", {**_ALPACA, "alternatives": 5}, {}),
]


@pytest.mark.parametrize(("reason", "value", "config"), REFUSED)
def test_a_message_has_the_next_step(reason: str, value: Any, config: dict[str, Any]) -> None:
    if config.get("template"):
        config = {"template": Template(intent="intent", slots=("city",))}
    fault = read_answer(value, DataConfig(**config))
    assert isinstance(fault, RowFault)
    assert _STEP.search(fault.message), fault.message
    if not config.get("tolerate"):
        assert fault.reason == reason


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("list-answer", ["a(x)"]),
        ("full-width", "a（x）"),
        ("missing-parenthesis", "a(x"),
        ("trailing-semicolon", "a();"),
        ("typed-quotes", "a(“x”)"),
        ("choice-answer", [{"data": "a"}]),
        ("bare-intent", "a"),
    ],
)
def test_a_deviation_that_is_not_tolerated_says_what_to_do(kind: Leniency, label: Any) -> None:
    others = tuple(known for known in get_args(Leniency) if known != kind)
    fault = read_answer(row(label_1=survey(label)), DataConfig(tolerate=others))
    assert isinstance(fault, RowFault)
    assert fault.reason == kind
    assert f"add '{kind}' to data.tolerate" in fault.message


def test_an_empty_answer_names_its_stage() -> None:
    fault = read_answer(row(label_1_check=survey("")), DataConfig())
    assert isinstance(fault, RowFault)
    assert "stage check to the question 'output'" in fault.message


def test_every_reason_is_tried() -> None:
    # These are of files, lists and base models; or of JSON text (test_repeated_keys.py).
    others = {"not-json", "truncated", "too-long", "wrong-cells", "forgotten", "too-many-tokens"}
    others.add("repeated-key")
    tried = {reason for reason, _, _ in REFUSED} | others | set(get_args(Leniency))
    assert tried == set(get_args(RejectionReason))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (chat(("system", "s"), ("user", "x"), ("assistant", "a()")), "messages of other roles"),
        (chat(("user", "x"), ("tool", "t"), ("assistant", "a()")), "messages of other roles"),
        (chat(("user", "x"), ("assistant", "b()"), ("assistant", "a()")), "before the last one"),
        (chat(("user", "x"), ("assistant", "a()"), system="s"), "'system'"),
        ({"text": "x", "label": "a()", "Comments": ["c"]}, "'Comments'"),
        ({"prompt": "x", "label": "a()", "predict": "b()", "system": "s"}, "'system'"),
        ({"data": {"instruction": "x", "input": "y"}, "label-1": survey("a()")}, "'input'"),
    ],
)
def test_text_that_is_not_read_is_reported(value: dict[str, Any], named: str) -> None:
    answer = read_answer(value, DataConfig())
    assert isinstance(answer, RowAnswer)
    (note,) = answer.notes
    assert (note.kind, answer.output) == ("unread-field", "a()")
    assert named in note.message


@pytest.mark.parametrize(
    "value",
    [
        chat(("user", "x"), ("assistant", "hello"), ("user", "y"), ("assistant", "a()"), id="r 1"),
        chat(("system", ""), ("user", "x"), ("tool", None), ("assistant", "a()")),
        {"text": "x", "label": "a()", "Comments": [], "id": 3},
        {"data": {"instruction": "x", "input": "", "url": "u"}, "label-1": survey("a()")},
    ],
)
def test_what_no_model_reads_is_not_reported(value: dict[str, Any]) -> None:
    answer = read_answer(value, DataConfig())
    assert isinstance(answer, RowAnswer)
    assert answer.notes == ()
