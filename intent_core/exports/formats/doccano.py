"""doccano's text classification: `text`, and `label`, the names of intents or calls."""

from collections.abc import Mapping
from typing import Any

from intent_core.exports.annotators import DOCCANO_KEYS, AnswerOrigin, find_annotator
from intent_core.exports.files.json_rows import refuse_row
from intent_core.exports.label_results import StageAnswers, join_choices
from intent_core.exports.row_answer import (
    Note,
    RowAnswer,
    choose_answer,
    finish_answer,
    note_unread,
    read_utterance,
)
from intent_core.recipe.config import DataConfig

_LABELS = ("label", "labels", "cats", "entities")


def is_doccano_row(row: Mapping[str, Any]) -> bool:
    return "text" in row and any(key in row for key in _LABELS)


def read_doccano_row(row: Mapping[str, Any], config: DataConfig, notes: list[Note]) -> RowAnswer:
    utterance = read_utterance(row, "text", notes)
    origin = find_doccano_origin(row, config)
    answer = join_choices(_read_labels(row))._replace(annotator=origin.annotator)
    answers = StageAnswers([answer], [], [])
    given = choose_answer(answers, config, notes)
    note_unread(row, {"text", _find_key(row), "id", config.group_by, *DOCCANO_KEYS}, notes)
    return finish_answer(utterance, given, "given", config, notes)


def find_doccano_utterance(row: Mapping[str, Any], config: DataConfig) -> object:
    """Return the text of a row."""
    return row.get("text")


def find_doccano_answer(row: Mapping[str, Any], config: DataConfig) -> str:
    """Return the labels of a row as calls."""
    return join_choices(_read_labels(row)).text


def find_doccano_origin(row: Mapping[str, Any], config: DataConfig) -> AnswerOrigin:
    """Return the annotator of a row."""
    return AnswerOrigin("", find_annotator(row, DOCCANO_KEYS))


def _find_key(row: Mapping[str, Any]) -> str:
    return next((key for key in _LABELS if key in row), _LABELS[0])


def _read_labels(row: Mapping[str, Any]) -> list[str]:
    key = _find_key(row)
    labels = row.get(key) or []
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        refuse_row(
            "bad-label",
            f"{key!r} marks spans of text (entities), not intents. Label the call of each "
            "utterance, or its intent, as text",
        )
    return labels
