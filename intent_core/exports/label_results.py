"""Read the answers in one stage's label, one per annotator.

The `results` of a label have one entry per question and annotator: `{"markTitle", "data"}` in older
exports, `{"MarkResult": {"annotations": [{"labels": {title: answer}}]}}` in newer ones, where
`MarkResult` is JSON text, an object or a list. An answer is found by the title of its question. It
is text, or the chosen options of a choice; `data` can also be a list of further questions.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from intent_core.exports.annotators import ITAG_KEYS, AnswerOrigin, find_annotator
from intent_core.exports.files.json_rows import (
    RowRefused,
    name_type,
    parse_json,
    refuse_row,
    shorten,
)
from intent_core.exports.files.repeated_keys import find_repeats
from intent_core.language.invisible import strip_invisible
from intent_core.recipe.choices import Leniency

_MAX_RESULTS = 1000
_OFF = (0, "0", False, None, "", "false", "False", "no", "No")
_LONGEST_ID = 64
_MAX_DEPTH = 8
_ENTITIES = (
    "the result is an entity result: it marks spans of text, not calls. Ask for the intent in a "
    "single-choice question and for each slot in a text field; see data.template"
)


class GivenAnswer(NamedTuple):
    """One annotator's answer, unchanged."""

    text: str
    version: int | None
    slips: tuple[Leniency, ...] = ()
    mark_result: str = ""
    """iTAG's id of the answer; "" if the export does not state it."""
    annotator: str = ""
    """Who gave it; "" if the export does not state it."""


_NO_ANSWER = GivenAnswer("", None)


class QuestionAnswer(NamedTuple):
    """One annotator's answer to one question."""

    title: str
    texts: tuple[str, ...]
    """The text, or the names of the chosen options."""
    answer: GivenAnswer
    """The same as calls."""
    group: int | None = None
    """Equal for answers that were given together; None if the export does not state it."""
    fault: str = ""
    """Why the answer cannot be read."""

    @property
    def has_text(self) -> bool:
        return any(strip_invisible(text).strip() for text in self.texts)


class StageAnswers(NamedTuple):
    given: list[GivenAnswer]
    titles: list[str]
    faults: list[str]
    unread: tuple[str, ...] = ()
    """Titles of questions with an answer that is not read, although several are."""


def read_stage(label: object, title: str) -> StageAnswers:
    """Read the answers to one question; an untitled question is read if there is no other.

    Args:
        label: the value under a `label-<id>` key.
        title: the title of the question.
    """
    answers = read_questions(label)
    titles = list_titles(answers)
    chosen = [answer for answer in answers if answer.title == (title if titles else "")]
    given = [answer.answer for answer in chosen if not answer.fault]
    return StageAnswers(given, titles, find_faults(answers, [title], is_answered=bool(given)))


def list_titles(answers: Iterable[QuestionAnswer]) -> list[str]:
    """List the titles of questions, each once.

    Args:
        answers: the answers of one stage.
    """
    return list(dict.fromkeys(answer.title for answer in answers if answer.title))


def find_faults(
    answers: Sequence[QuestionAnswer], titles: Iterable[str], *, is_answered: bool
) -> list[str]:
    """List why answers to some questions cannot be read.

    Args:
        answers: the answers of one stage.
        titles: the titles of the questions. A fault in another question is of no interest.
        is_answered: whether there are answers; marked spans of text are a fault only without.
    """
    chosen = {"", *titles}
    faults = [answer.fault for answer in answers if answer.fault and answer.title in chosen]
    others = [fault for fault in faults if fault != _ENTITIES]
    return others if others or is_answered or list_titles(answers) else faults[:1]


def read_questions(label: object) -> list[QuestionAnswer]:
    """Read the answers to all questions of one stage, in the order of the row.

    Args:
        label: the value under a `label-<id>` key.
    """
    results = label.get("results") if isinstance(label, dict) else label
    if results is None:
        return []
    if not isinstance(results, list):
        refuse_row(
            "bad-label",
            f"'results' must be a list, not {name_type(results)}: export the labelled data again",
        )
    bound_items(results, "results")
    return [answer for number, result in enumerate(results) for answer in _read(result, number)]


def _read(result: object, group: int, depth: int = 0) -> Iterator[QuestionAnswer]:
    try:
        yield from _read_result(result, group, depth)
    except RowRefused as refused:
        yield QuestionAnswer("", (), _NO_ANSWER, fault=refused.args[1])


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


def _read_result(result: object, group: int, depth: int) -> Iterator[QuestionAnswer]:
    if not isinstance(result, dict):
        refuse_row(
            "bad-label",
            f"a result must be an object, not {name_type(result)}: export the labelled data again",
        )
    if "objects" in result and "data" not in result:
        refuse_row("bad-label", _ENTITIES)
    mark_result, annotator = _read_origin(result)
    version = read_version(result.get("Version"))
    origin = GivenAnswer("", version, mark_result=mark_result, annotator=annotator)
    marked = result.get("MarkResult")
    if isinstance(marked, str) and marked.lstrip()[:1] not in ("{", "["):
        result = {"data": marked, **result}
    if "data" in result:
        yield from _read_data(_find_title(result), result["data"], origin, group, depth)
        return
    if not isinstance(marked, str):
        origin = origin._replace(slips=("object-mark-result",))
    for annotation in _annotations(marked):
        labels = annotation.get("labels") if isinstance(annotation, dict) else None
        if _marks_span(annotation):
            refuse_row("bad-label", _ENTITIES)
        for title, value in labels.items() if isinstance(labels, dict) else ():
            answer = _read_answer(strip_invisible(title), value, origin)
            yield answer._replace(group=group)


def _find_title(result: Mapping[str, object]) -> str:
    title = result.get("markTitle", result.get("MarkTitle"))
    return strip_invisible(title) if isinstance(title, str) else ""


def _marks_span(annotation: object) -> bool:
    """Whether an annotation labels a part of the text."""
    if not isinstance(annotation, dict):
        return False
    exif = annotation.get("exif")
    places = (annotation, exif if isinstance(exif, dict) else {})
    return any({"start", "end"} <= place.keys() for place in places)


def _read_data(
    title: str, value: object, origin: GivenAnswer, group: int, depth: int
) -> Iterator[QuestionAnswer]:
    """Read an answer, or the questions of a group, which have titles of their own."""
    items = value if isinstance(value, list) else []
    if items and all(isinstance(item, dict) for item in items) and any(map(_find_title, items)):
        if depth == _MAX_DEPTH:
            refuse_row(
                "bad-label", f"questions are nested more than {_MAX_DEPTH} deep: use fewer groups"
            )
        bound_items(items, "questions")
        for item in items:
            for answer in _read(item, group, depth + 1):
                yield answer._replace(group=group)
    else:
        yield _read_answer(title, value, origin)


def _read_answer(title: str, value: object, origin: GivenAnswer) -> QuestionAnswer:
    """Read an answer that is text, or the chosen options of a choice question."""
    try:
        names = _pick_names(value)
        given = read_value(value, None) if names is None else join_choices(names)
    except RowRefused as refused:
        return QuestionAnswer(title, (), _NO_ANSWER, fault=refused.args[1])
    texts = (given.text,) if names is None else tuple(names)
    slips = (*origin.slips, *given.slips)
    return QuestionAnswer(title, texts, origin._replace(text=given.text, slips=slips))


def _pick_names(value: object) -> list[str] | None:
    """The names of the chosen options, of a tree the innermost ones; None for an answer in text."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return None
    if value and all(isinstance(item, str) and ("(" in item or "（" in item) for item in value):
        return None
    names: list[str] = []
    pending = value[::-1]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            # An object with another content stays one, and is refused.
            item = item.get("children") or item.get("data", item.get("value", item or None))
        if isinstance(item, list) and len(item) + len(pending) <= _MAX_RESULTS:
            pending += item[::-1]
        elif isinstance(item, str):
            names.append(item)
        elif item is not None:
            refuse_row(
                "bad-label",
                "a choice must have its name as text under 'data' or 'value': correct it",
            )
    return names


def _annotations(marked: object) -> list[Any]:
    if isinstance(marked, str):
        try:
            marked = _parse_marked(marked)
        except (ValueError, RecursionError) as error:
            refuse_row(
                "bad-label", f"'MarkResult' is not JSON ({error}): export the labelled data again"
            )
    if isinstance(marked, dict):
        marked = marked.get("annotations")
    if not isinstance(marked, list):
        return []
    bound_items(marked, "annotations")
    return marked


def _parse_marked(text: str) -> object:
    marked = parse_json(text)
    repeats = find_repeats(text.encode("utf-8", "surrogatepass"), marked)
    differing = [repeat for repeat in repeats if not repeat.is_equal]
    if differing:
        key, values, _ = differing[0]
        refuse_row(
            "repeated-key",
            f"the key {shorten(key)} of 'MarkResult' occurs more than once, with "
            f"{shorten(str(values[1]))} and {shorten(str(values[0]))}: keep the right one",
        )
    return marked


def join_choices(names: Sequence[str]) -> GivenAnswer:
    """Return the chosen intents as one answer; a choice can also be a whole call.

    Args:
        names: the chosen labels, in the order of the row.
    """
    texts = [name.strip() for name in names if strip_invisible(name).strip()]
    calls = [text if strip_invisible(text).endswith((")", "）")) else f"{text}()" for text in texts]
    is_choice = calls != texts or len(calls) > 1
    return GivenAnswer(";".join(calls), None, ("choice-answer",) if is_choice else ())


def read_value(value: object, version: int | None) -> GivenAnswer:
    slips: tuple[Leniency, ...] = ()
    if isinstance(value, list) and len(value) == 1:
        value, slips = value[0], ("list-answer",)
    if not isinstance(value, str | None):
        refuse_row(
            "bad-label",
            f"an answer must be text, not {name_type(value)}: write the calls as text",
        )
    return GivenAnswer(value or "", version, slips)


def list_origins(label: object) -> list[AnswerOrigin]:
    """List the origins of a stage's answers, also of those that cannot be read.

    Args:
        label: the value under a `label-<id>` key.
    """
    results = label.get("results") if isinstance(label, dict) else None
    some = results[:_MAX_RESULTS] if isinstance(results, list) else []
    return [_read_origin(result) for result in some if isinstance(result, dict)]


def _read_origin(result: Mapping[str, object]) -> AnswerOrigin:
    mark_result = read_mark_result(result.get("MarkResultId"))
    return AnswerOrigin(mark_result, find_annotator(result, ITAG_KEYS))


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
