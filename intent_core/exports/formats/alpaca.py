"""Training rows in the Alpaca format: `instruction`, `input`, `output`, as in the PAI guide.

`input` follows the instruction on a new line, and the user's side of `history` comes before both,
as LLaMA-Factory defines them. A test row can also have `alternatives`, other correct outputs, and
an object `tags`. Other keys with text are reported.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from intent_core.errors import CallSyntaxError
from intent_core.exports.files.json_rows import name_type, refuse_row, shorten
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
from intent_core.language.conversation import join_turns
from intent_core.recipe.config import DataConfig

_READ = {"instruction", "input", "history", "output", "alternatives", "tags", "id"}


def is_alpaca_row(row: Mapping[str, Any]) -> bool:
    return "instruction" in row


def read_alpaca_row(row: Mapping[str, Any], config: DataConfig, notes: list[Note]) -> RowAnswer:
    fields = {"instruction": find_alpaca_utterance(row, config)}
    utterance = read_utterance(fields, "instruction", notes)
    answers = StageAnswers([read_value(row.get("output"), None)], [], [])
    given = choose_answer(answers, config, notes)
    answer = finish_answer(utterance, given, "given", config, notes)
    for key, value in row.items():
        if key not in _READ and isinstance(value, str) and value.strip():
            message = f"{key!r} has text that is not read: {shorten(value)}"
            notes.append(Note(kind="unread-field", message=message))
    extras = {"alternatives": _read_alternatives(row), "tags": _read_tags(row)}
    return answer.model_copy(update=extras)


def find_alpaca_utterance(row: Mapping[str, Any], config: DataConfig) -> object:
    """Return the turns of the user: those of `history`, then the instruction with its input."""
    if not row.get("input") and not row.get("history"):
        return row["instruction"]
    parts = [row["instruction"], row.get("input")]
    for part in parts:
        if not isinstance(part, str | None):
            refuse_row(
                "no-utterance", f"'instruction' and 'input' must be text, not {name_type(part)}"
            )
    question = "\n".join(part for part in parts if part and part.strip())
    history = list(_read_history(row.get("history")))
    return join_turns([*history, question]) if history else question


def _read_history(history: object) -> Iterator[str]:
    if history is None:
        return
    if not isinstance(history, list):
        refuse_row("no-utterance", f"'history' must be a list, not {name_type(history)}")
    for turn in history:
        if (
            not isinstance(turn, list)
            or len(turn) != 2
            or not all(isinstance(t, str) for t in turn)
        ):
            refuse_row("no-utterance", "each turn of 'history' must be a list of two texts")
        yield from turn[0].splitlines()


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
