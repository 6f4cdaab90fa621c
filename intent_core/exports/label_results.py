"""Read the answers in one stage's label, one per annotator.

The `results` of a label have one entry per question and annotator: `{"markTitle", "data"}` in older
exports, `{"MarkResult": {"annotations": [{"labels": {title: answer}}]}}` in newer ones, where
`MarkResult` is JSON text, an object or a list. An answer is found by the title of its question.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from intent_core.exports.json_rows import RowRefused, name_type, parse_json, refuse_row
from intent_core.recipe.choices import Leniency

_MAX_RESULTS = 1000
_LONGEST_ID = 64


class GivenAnswer(NamedTuple):
    """One annotator's answer, unchanged."""

    text: str
    version: int | None
    slips: tuple[Leniency, ...] = ()
    mark_result: str = ""
    """iTAG's id of the answer; "" if the export does not state it."""


class StageAnswers(NamedTuple):
    given: list[GivenAnswer]
    titles: list[str]
    faults: list[str]


def read_stage(label: object, title: str) -> StageAnswers:
    answers = StageAnswers([], [], [])
    results = label.get("results") if isinstance(label, dict) else label
    if results is None:
        return answers
    if not isinstance(results, list):
        refuse_row("bad-label", f"'results' must be a list, not {name_type(results)}")
    if len(results) > _MAX_RESULTS:
        refuse_row(
            "bad-label", f"the label has {len(results)} results; the maximum is {_MAX_RESULTS}"
        )
    for result in results:
        try:
            answers.given.extend(_read_result(result, title, answers.titles))
        except RowRefused as refused:
            answers.faults.append(refused.args[1])
    return answers


def _read_result(result: object, title: str, titles: list[str]) -> Iterator[GivenAnswer]:
    if not isinstance(result, dict):
        refuse_row("bad-label", f"a result must be an object, not {name_type(result)}")
    version = read_version(result.get("Version"))
    mark_result = read_mark_result(result.get("MarkResultId"))
    question = result.get("markTitle", result.get("MarkTitle"))
    marked = result.get("MarkResult")
    if isinstance(marked, str) and marked.lstrip()[:1] not in ("{", "["):
        result = {"data": marked, **result}
    if "data" in result:
        titles.append(question if isinstance(question, str) else "")
        if question == title:
            yield read_value(result["data"], version)._replace(mark_result=mark_result)
        return
    for annotation in _annotations(marked):
        labels = annotation.get("labels") if isinstance(annotation, dict) else None
        if isinstance(labels, dict):
            titles.extend(labels)
            if title in labels:
                given = read_value(labels[title], version)._replace(mark_result=mark_result)
                if isinstance(marked, str):
                    yield given
                else:
                    yield given._replace(slips=("object-mark-result", *given.slips))


def _annotations(marked: object) -> list[Any]:
    if isinstance(marked, str):
        try:
            marked = parse_json(marked)
        except (ValueError, RecursionError) as error:
            refuse_row("bad-label", f"'MarkResult' is not JSON: {error}")
    if isinstance(marked, dict):
        marked = marked.get("annotations")
    return marked if isinstance(marked, list) else []


def read_value(value: object, version: int | None) -> GivenAnswer:
    slips: tuple[Leniency, ...] = ()
    if isinstance(value, list) and len(value) == 1:
        value, slips = value[0], ("list-answer",)
    if not isinstance(value, str | None):
        refuse_row("bad-label", f"an answer must be text, not {name_type(value)}")
    return GivenAnswer(value or "", version, slips)


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
    """Return whether one of iTAG's flags is set: 1, true, or either as text.

    Args:
        flag: the value in the export.
    """
    return flag in (1, "1", "true", "True")
