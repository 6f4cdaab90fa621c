"""Answers to several questions of a template, put together to calls."""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from intent_core.exports.files.json_rows import refuse_row, shorten
from intent_core.exports.label_results import GivenAnswer, QuestionAnswer
from intent_core.exports.row_answer import refuse_unusable
from intent_core.language.calls import Argument, Call, format_calls
from intent_core.language.invisible import find_invisible, strip_invisible
from intent_core.recipe.config import Template


def compose_answers(answers: Sequence[QuestionAnswer], template: Template) -> list[GivenAnswer]:
    """Put the answers to several questions together to one call per annotator.

    Args:
        answers: of one row, in its order; the n-th answer to each question is one annotator's.
        template: which question has the intent, and which have the slots.
    """
    by_title: dict[str, list[QuestionAnswer]] = {}
    for answer in answers:
        by_title.setdefault(answer.title, []).append(answer)
    return [
        _compose(number, intent, by_title, template)
        for number, intent in enumerate(by_title.get(template.intent, ()))
    ]


def _compose(
    number: int,
    intent: QuestionAnswer,
    by_title: Mapping[str, list[QuestionAnswer]],
    template: Template,
) -> GivenAnswer:
    texts = [text for title in template.slots for text in _nth(by_title.get(title, ()), number)]
    typed = "".join([*intent.texts, *texts])
    refuse_unusable(typed)
    values = [visible for text in texts if (visible := strip_invisible(text).strip())]
    name = strip_invisible("".join(intent.texts)).strip()
    if not name:
        return intent.answer._replace(text="")
    try:
        arguments = tuple(Argument(value=value) for value in values)
        # At the end, where they have no meaning: they are removed and reported with the label's.
        text = format_calls([Call(intent=name, arguments=arguments)]) + find_invisible(typed)
    except ValidationError:
        refuse_row(
            "bad-calls",
            f"the answer {shorten(name)} to the question {template.intent!r} is not the name of an "
            "intent: choose one name without spaces and without , ; ( )",
        )
    return intent.answer._replace(text=text, slips=())


def _nth(answers: Sequence[QuestionAnswer], number: int) -> tuple[str, ...]:
    return answers[number].texts if number < len(answers) else ()
