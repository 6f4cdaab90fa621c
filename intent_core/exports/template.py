"""Answers to several questions of a template, put together to calls."""

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from intent_core.errors import CallSyntaxError
from intent_core.exports.files.json_rows import refuse_row, shorten
from intent_core.exports.label_repair import read_label
from intent_core.exports.label_results import (
    GivenAnswer,
    QuestionAnswer,
    StageAnswers,
    find_faults,
    list_titles,
)
from intent_core.exports.row_answer import refuse_unusable
from intent_core.language.calls import Argument, Call, format_calls
from intent_core.language.invisible import find_invisible, strip_invisible
from intent_core.recipe.config import Template

Group = list[QuestionAnswer]
"""The answers of one annotator."""


def compose_answers(answers: Sequence[QuestionAnswer], template: Template) -> StageAnswers:
    """Put the answers to several questions together to one list of calls per annotator.

    Args:
        answers: of one stage, in the order of the row.
        template: which question has the intent, and which have the slots.

    Raises:
        RowRefused: the answers of an annotator do not make calls.
    """
    titles = list_titles(answers)
    chosen = {template.intent, *template.slots}
    groups = _group([answer for answer in answers if answer.title in chosen])
    usable = [group for group in groups if not any(answer.fault for answer in group)]
    given = [_compose(group, template) for group in usable]
    faults = find_faults(answers, chosen, is_answered=bool(given))
    unread = {answer.title for answer in answers if answer.title not in chosen and answer.has_text}
    return StageAnswers(given, titles, faults, tuple(t for t in titles if t in unread))


def _group(answers: Group) -> list[Group]:
    """Divide answers by annotator."""
    counts = Counter(answer.title for answer in answers)
    if not counts or max(counts.values()) == 1:
        return [answers] if answers else []
    if all(answer.group is not None for answer in answers):
        together: dict[int | None, Group] = {}
        for answer in answers:
            together.setdefault(answer.group, []).append(answer)
        return list(together.values())
    if len(set(counts.values())) == 1:
        by_title = [[a for a in answers if a.title == title] for title in counts]
        return [list(group) for group in zip(*by_title, strict=True)]
    return list(_split_at_repeats(answers))


def _split_at_repeats(answers: Iterable[QuestionAnswer]) -> list[Group]:
    groups: list[Group] = [[]]
    for answer in answers:
        if any(answer.title == earlier.title for earlier in groups[-1]):
            groups.append([])
        groups[-1].append(answer)
    return groups


def _compose(group: Group, template: Template) -> GivenAnswer:
    by_title = {answer.title: answer for answer in group}
    texts = [text for slot in template.slots if slot in by_title for text in by_title[slot].texts]
    intent = by_title.get(template.intent)
    names = _clean(intent.texts if intent else ())
    values = _clean(texts)
    typed = "".join([*(intent.texts if intent else ()), *texts])
    refuse_unusable(typed)
    if not names and values:
        refuse_row(
            "empty-answer",
            f"the question {template.intent!r} has no answer, although those for slots have "
            f"({shorten(values[0])}): choose the intent",
        )
    if not names or intent is None:
        return (intent or group[0]).answer._replace(text="", slips=())
    # At the end, where they have no meaning: they are removed and reported with the label's.
    text = _write_calls(names, values, template) + find_invisible(typed)
    return intent.answer._replace(text=text, slips=())


def _clean(texts: Iterable[str]) -> list[str]:
    return [visible for text in texts if (visible := strip_invisible(text).strip())]


def _write_calls(names: list[str], values: list[str], template: Template) -> str:
    """One call with the values, or several calls without."""
    if not values and any(name.endswith((")", "）")) for name in names):
        return ";".join(name if name.endswith((")", "）")) else f"{name}()" for name in names)
    if values and len(names) > 1:
        refuse_row(
            "bad-calls",
            f"the question {template.intent!r} has {len(names)} answers and there are values for "
            "slots: choose one intent, or write the calls in one question (data.question_title)",
        )
    arguments = tuple(Argument(value=value) for value in values)
    try:
        calls = [Call(intent=_read_name(name), arguments=arguments) for name in names]
    except (ValidationError, CallSyntaxError):
        refuse_row(
            "bad-calls",
            f"the answer {shorten(names[0])} to the question {template.intent!r} is not the name "
            "of an intent: choose one name without spaces and without , ; ( )",
        )
    return format_calls(calls, quoted="＝" in "".join(values))


def _read_name(text: str) -> str:
    """The name in `name` or `name()`."""
    if not text.endswith((")", "）")):
        return text
    (call, *others) = read_label(text).calls
    if others or call.arguments:
        raise CallSyntaxError(f"{text!r} has values of its own")
    return call.intent
