"""Training rows in the Alpaca format (`instruction`, `output`), as in the PAI guide.

A test row can also have `alternatives`, other correct outputs, and an object `tags`.
"""

from collections.abc import Mapping
from typing import Any

from intent_core.errors import CallSyntaxError
from intent_core.exports.json_rows import name_type, refuse_row
from intent_core.exports.label_repair import read_label
from intent_core.exports.label_results import StageAnswers, read_value
from intent_core.exports.row_answer import (
    Note,
    RowAnswer,
    Tags,
    choose_answer,
    finish_answer,
    pick_tags,
    read_utterance,
)
from intent_core.recipe.config import DataConfig


def is_alpaca_row(row: Mapping[str, Any]) -> bool:
    return "instruction" in row


def read_alpaca_row(row: Mapping[str, Any], config: DataConfig, notes: list[Note]) -> RowAnswer:
    utterance = read_utterance(row, "instruction")
    answers = StageAnswers([read_value(row.get("output"), None)], [], [])
    given = choose_answer(answers, config, notes)
    answer = finish_answer(utterance, given, "given", config, notes)
    extras = {"alternatives": _read_alternatives(row), "tags": _read_tags(row)}
    return answer.model_copy(update=extras)


def _read_alternatives(row: Mapping[str, object]) -> tuple[str, ...]:
    """Return the `alternatives` of a test row, other correct outputs, in canonical form."""
    given = row.get("alternatives")
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        refuse_row("bad-calls", "'alternatives' must be a list of calls, each as text")
    try:
        return tuple(read_label(text).canonical for text in given)
    except CallSyntaxError as error:
        refuse_row("bad-calls", f"'alternatives': {error}")


def _read_tags(row: Mapping[str, object]) -> Tags:
    """Return the `tags` of a test row, e.g. {"channel": "phone"}."""
    given = row.get("tags")
    if given is None:
        return ()
    if not isinstance(given, dict):
        refuse_row("not-an-object", f"'tags' must be an object, not {name_type(given)}")
    return pick_tags(given, given)
