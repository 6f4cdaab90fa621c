"""Read the answers in one stage's label, one per annotator.

The `results` of a label have one entry per question and annotator: `{"markTitle", "data"}` in older
exports, `{"MarkResult": {"annotations": [{"labels": {title: answer}}]}}` in newer ones, where
`MarkResult` is JSON text, an object or a list. An answer is found by the title of its question.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from intent_core.exports.files.json_rows import RowRefused, name_type, parse_json, refuse_row
from intent_core.language.invisible import strip_invisible
from intent_core.recipe.choices import Leniency

_MAX_RESULTS = 1000
_OFF = (0, "0", False, None, "", "false", "False", "no", "No")
_LONGEST_ID = 64


class GivenAnswer(NamedTuple):
    """One annotator's answer, unchanged."""

    text: str
    version: int | None
    slips: tuple[Leniency, ...] = ()
    mark_result: str = ""
    """iTAG's id of the answer; "" if the export does not state it."""


class QuestionAnswer(NamedTuple):
    """One annotator's answer to one question."""

    title: str
    texts: tuple[str, ...]
    """The text, or the names of the chosen options."""
    answer: GivenAnswer
    """The same as calls."""


class StageAnswers(NamedTuple):
    given: list[GivenAnswer]
    titles: list[str]
    faults: list[str]


def read_stage(label: object, title: str) -> StageAnswers:
    """Read the answers to one question; an untitled question is read if there is no other.

    Args:
        label: the value under a `label-<id>` key.
        title: the title of the question.
    """
    answers = StageAnswers([], [], [])
    untitled = []
    for answer in read_questions(label, answers.faults):
        answers.titles.append(answer.title)
        if answer.title == title:
            answers.given.append(answer.answer)
        elif not answer.title:
            untitled.append(answer.answer)
    if untitled and not any(answers.titles):
        answers.given.extend(untitled)
    return answers


def read_questions(label: object, faults: list[str]) -> list[QuestionAnswer]:
    """Read the answers to all questions of one stage, in the order of the row.

    Args:
        label: the value under a `label-<id>` key.
        faults: takes why a result cannot be read.
    """
    results = label.get("results") if isinstance(label, dict) else label
    if results is None:
        return []
    if not isinstance(results, list):
        refuse_row("bad-label", f"'results' must be a list, not {name_type(results)}")
    bound_items(results, "results")
    answers = []
    for result in results:
        try:
            answers += list(_read_result(result))
        except RowRefused as refused:
            faults.append(refused.args[1])
    return answers


def bound_items(items: list[Any], name: str) -> None:
    """Refuse a row with so many items that reading each would take too long.

    Args:
        items: a list in the row.
        name: what the items are, for the message.

    Raises:
        RowRefused: there are more than a row can have.
    """
    if len(items) > _MAX_RESULTS:
        refuse_row(
            "bad-label",
            f"the row has {len(items)} {name}; the maximum is {_MAX_RESULTS}: remove those that "
            "are not labels",
        )


def _read_result(result: object) -> Iterator[QuestionAnswer]:
    if not isinstance(result, dict):
        refuse_row("bad-label", f"a result must be an object, not {name_type(result)}")
    if "objects" in result:
        refuse_row(
            "bad-label",
            "the result is an entity result: it marks spans of text, not calls. Ask for the intent "
            "in a single-choice question and for each slot in a text field; see data.template",
        )
    version = read_version(result.get("Version"))
    mark_result = read_mark_result(result.get("MarkResultId"))
    question = result.get("markTitle", result.get("MarkTitle"))
    marked = result.get("MarkResult")
    if isinstance(marked, str) and marked.lstrip()[:1] not in ("{", "["):
        result = {"data": marked, **result}
    if "data" in result:
        title = strip_invisible(question) if isinstance(question, str) else ""
        answer = _read_data(title, result["data"], version)
        yield answer._replace(answer=answer.answer._replace(mark_result=mark_result))
        return
    for annotation in _annotations(marked):
        labels = annotation.get("labels") if isinstance(annotation, dict) else None
        for title, value in labels.items() if isinstance(labels, dict) else ():
            answer = _read_data(strip_invisible(title), value, version)
            given = answer.answer._replace(mark_result=mark_result)
            if not isinstance(marked, str):
                given = given._replace(slips=("object-mark-result", *given.slips))
            yield answer._replace(answer=given)


def _read_data(title: str, value: object, version: int | None) -> QuestionAnswer:
    """Read an answer that is text, or the chosen options of a choice question."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        bound_items(value, "choices")
        names = [item.get("data", item.get("value")) for item in value]
        texts = [name for name in names if isinstance(name, str)]
        if len(texts) < len(names):
            refuse_row("bad-label", "a choice must have its name as text under 'data'")
        return QuestionAnswer(title, tuple(texts), join_choices(texts)._replace(version=version))
    answer = read_value(value, version)
    return QuestionAnswer(title, (answer.text,), answer)


def _annotations(marked: object) -> list[Any]:
    if isinstance(marked, str):
        try:
            marked = parse_json(marked)
        except (ValueError, RecursionError) as error:
            refuse_row("bad-label", f"'MarkResult' is not JSON: {error}")
    if isinstance(marked, dict):
        marked = marked.get("annotations")
    if not isinstance(marked, list):
        return []
    bound_items(marked, "annotations")
    return marked


def join_choices(names: Sequence[str]) -> GivenAnswer:
    """Return the chosen intents as one answer; a choice can also be a whole call.

    Args:
        names: the chosen labels, in the order of the row.
    """
    texts = [name.strip() for name in names if strip_invisible(name).strip()]
    calls = [text if strip_invisible(text).endswith((")", "）")) else f"{text}()" for text in texts]
    is_bare = calls != texts
    return GivenAnswer(";".join(calls), None, ("choice-answer",) if is_bare else ())


def read_value(value: object, version: int | None) -> GivenAnswer:
    slips: tuple[Leniency, ...] = ()
    if isinstance(value, list) and len(value) == 1:
        value, slips = value[0], ("list-answer",)
    if not isinstance(value, str | None):
        refuse_row("bad-label", f"an answer must be text, not {name_type(value)}")
    return GivenAnswer(value or "", version, slips)


def show_answer(value: object) -> str:
    """Return a model's answer as text, whatever it is: it is scored, not repaired.

    Args:
        value: the value in a file of answers.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str | None):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)


def read_version(value: object) -> int | None:
    """Return epoch milliseconds, given as a number or as text; None for anything else."""
    if not isinstance(value, str):
        if not isinstance(value, int):
            return None
        value = str(value)
    # `isdigit` also accepts digits of other scripts; str(True) is not digits.
    return int(value) if value.isdigit() and value.isascii() and len(value) < 19 else None


def read_mark_result(value: object) -> str:
    """Return iTAG's id of an answer; "" for anything else.

    Args:
        value: the id as text or as an integer.
    """
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        return ""
    return value if value.isascii() and value.isalnum() else ""


def is_set(flag: object) -> bool:
    """Return whether one of iTAG's flags is set: anything but 0, false, no, or nothing.

    Args:
        flag: the value in the export.
    """
    return flag not in _OFF
