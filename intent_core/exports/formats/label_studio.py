"""Label Studio's JSON export: tasks with `data` and `annotations`, each with a list of results.

A text area answers with calls, a choice with the name of an intent. `data.template` names the
questions (`from_name`) of an intent and its slots, where they are several.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from intent_core.exports.annotators import AnswerOrigin, find_annotator, join_origins
from intent_core.exports.files.json_rows import list_some, name_type, refuse_row, shorten
from intent_core.exports.label_results import (
    GivenAnswer,
    QuestionAnswer,
    StageAnswers,
    bound_items,
    join_choices,
    list_titles,
)
from intent_core.exports.row_answer import (
    Note,
    RowAnswer,
    choose_answer,
    finish_answer,
    name_question,
    pick_tags,
    read_utterance,
)
from intent_core.exports.template import compose_answers
from intent_core.language.invisible import strip_invisible
from intent_core.recipe.config import DataConfig

_PERSON_KEYS = ("completed_by",)
_TEXT_KEYS = ("text", "instruction", "utterance", "dialogue")


def is_label_studio_row(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("annotations"), list) and isinstance(row.get("data"), dict)


def read_label_studio_row(
    row: Mapping[str, Any], config: DataConfig, notes: list[Note]
) -> RowAnswer:
    fields = _read_fields(row)
    utterance = read_utterance(fields, _find_key(fields, config), notes)
    given = choose_answer(_read_answers(row, config), config, notes)
    answer = finish_answer(utterance, given, "given", config, notes)
    return answer.model_copy(update={"tags": pick_tags(fields, config.tag_fields)})


def find_label_studio_utterance(row: Mapping[str, Any], config: DataConfig) -> object:
    """Return the text of a task."""
    fields = _read_fields(row)
    key = _find_key(fields, config)
    if key not in fields:
        there = list_some(fields) or "nothing"
        refuse_row(
            "no-utterance",
            f"the task has no key {key!r} under 'data'; it has {there}. Set data.utterance_field "
            "to the key of the utterance",
        )
    return fields[key]


def find_label_studio_answer(row: Mapping[str, Any], config: DataConfig) -> str:
    """Return the answer that the annotations give."""
    return choose_answer(_read_answers(row, config), config, []).text


def find_label_studio_origin(row: Mapping[str, Any], config: DataConfig) -> AnswerOrigin:
    """Return the annotators of a task."""
    given = row.get("annotations")
    annotations = given if isinstance(given, list) else []
    people = [find_annotator(item, _PERSON_KEYS) for item in annotations if isinstance(item, dict)]
    return join_origins(AnswerOrigin("", person) for person in people)


def _read_fields(row: Mapping[str, Any]) -> dict[str, object]:
    fields = row.get("data")
    if not isinstance(fields, dict):
        refuse_row(
            "no-utterance",
            f"'data' must be an object, not {name_type(fields)}: check data.format",
        )
    return fields


def _read_answers(row: Mapping[str, Any], config: DataConfig) -> StageAnswers:
    given = row.get("annotations")
    annotations = given if isinstance(given, list) else []
    bound_items(annotations, "annotations")
    answers = [
        answer
        for number, annotation in enumerate(annotations)
        if isinstance(annotation, dict) and not annotation.get("was_cancelled")
        for answer in _read_results(annotation, number)
    ]
    if not answers:
        refuse_row("unlabelled", "the task has no annotation: label it, then export again")
    if config.template:
        composed = compose_answers(answers, config.template)
        if not composed.given and not composed.faults:
            _refuse_titles(answers, config)
        return composed
    titles = list_titles(answers)
    title = titles[0] if len(titles) == 1 else config.question_title
    chosen = [answer for answer in answers if answer.title == title]
    if not chosen:
        _refuse_titles(answers, config)
    given = [answer.answer for answer in chosen if not answer.fault]
    return StageAnswers(given, titles, [answer.fault for answer in chosen if answer.fault])


def _refuse_titles(answers: list[QuestionAnswer], config: DataConfig) -> NoReturn:
    refuse_row(
        "no-answer",
        f"no question is named {name_question(config)!r}; the questions are "
        f"{list_some(list_titles(answers))}. Set data.question_title, or name those of the intent "
        "and the slots in data.template",
    )


def _find_key(fields: Mapping[str, object], config: DataConfig) -> str:
    keys = (config.utterance_field, *_TEXT_KEYS)
    return next((key for key in keys if key in fields), config.utterance_field)


def _read_results(annotation: Mapping[str, Any], group: int) -> Iterator[QuestionAnswer]:
    results = annotation.get("result")
    annotator = find_annotator(annotation, _PERSON_KEYS)
    if not isinstance(results, list):
        refuse_row(
            "bad-label",
            f"'result' must be a list, not {name_type(results)}: export the labelled data again",
        )
    bound_items(results, "results")
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            refuse_row(
                "bad-label",
                "a result must be an object with a 'value': export the labelled data again",
            )
        title = strip_invisible(str(result.get("from_name", "")))
        question = _read_value(title, value)
        answer = question.answer._replace(annotator=annotator)
        yield question._replace(answer=answer, group=group)


def _read_value(title: str, value: Mapping[str, Any]) -> QuestionAnswer:
    nothing = QuestionAnswer(title, (), GivenAnswer("", None))
    if "choices" not in value and ("labels" in value or "start" in value):
        fault = (
            f"the question {shorten(title)} marks spans of text (entities), not calls. Ask for the "
            "intent in a choice and for each slot in a text area; see data.template"
        )
        return nothing._replace(fault=fault)
    texts = value.get("choices", value.get("text"))
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        fault = (
            f"the answer to {shorten(title)} must be text: ask for it in a text area or a choice"
        )
        return nothing._replace(fault=fault)
    is_choice = "choices" in value
    answer = join_choices(texts) if is_choice else GivenAnswer("\n".join(texts), None)
    return nothing._replace(texts=tuple(texts), answer=answer)
