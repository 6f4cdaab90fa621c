"""Training rows in the Alpaca format: `instruction`, `input`, `output`, as in the PAI guide.

`input` follows the instruction on a new line, and the user's side of `history` comes before both,
as LLaMA-Factory defines them. A test row can also have `alternatives`, other correct outputs, and
an object `tags`. Other keys with text are reported. With `data.utterance_field` and
`data.question_title` the utterance and the label have other keys.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from intent_core.exports.annotators import ROW_KEYS, find_annotator
from intent_core.exports.files.json_rows import (
    RowRefused,
    list_some,
    name_type,
    refuse_row,
    shorten,
)
from intent_core.exports.label_results import (
    GivenAnswer,
    StageAnswers,
    bound_items,
    read_value,
    show_answer,
)
from intent_core.exports.row_answer import (
    Note,
    RowAnswer,
    Tags,
    choose_answer,
    finish_answer,
    note_unread,
    pick_tags,
    read_utterance,
)
from intent_core.language.conversation import join_turns
from intent_core.recipe.config import DataConfig

_READ = {"alternatives", "tags", "id", *ROW_KEYS}
_EMPTY: tuple[object, ...] = (None, "", [], {})


def is_alpaca_row(row: Mapping[str, Any]) -> bool:
    return "instruction" in row


def read_alpaca_row(row: Mapping[str, Any], config: DataConfig, notes: list[Note]) -> RowAnswer:
    key = _choose_key(row, config.utterance_field, "instruction")
    utterance = read_utterance({key: find_alpaca_utterance(row, config)}, key, notes)
    title = _choose_key(row, config.question_title, "output")
    if title not in row:
        refuse_row(
            "no-answer",
            f"the row has no label under the key {title!r}; it has {list_some(row)}. Set "
            "data.question_title to the key of the label",
        )
    label = read_value(row[title], None)._replace(annotator=find_annotator(row, ROW_KEYS))
    answers = StageAnswers([label], [], [])
    given = choose_answer(answers, config, notes)
    answer = finish_answer(utterance, given, "given", config, notes)
    joined = {"input", "history"} if key == "instruction" else set()
    tags = {**_read_tags(row), **dict(pick_tags(row, config.tag_fields))}
    note_unread(row, {key, title, *joined, *_READ, *config.tag_fields, config.group_by}, notes)
    alternatives = tuple(_read_alternatives(row, config, notes))
    extras = {"alternatives": alternatives, "tags": tuple(sorted(tags.items()))}
    return answer.model_copy(update=extras)


def find_alpaca_utterance(row: Mapping[str, Any], config: DataConfig) -> object:
    """Return the turns of the user: those of `history`, then the instruction with its input."""
    key = _choose_key(row, config.utterance_field, "instruction")
    instruction = row.get(key)
    if key != "instruction" or (row.get("input") in _EMPTY and row.get("history") in _EMPTY):
        return instruction
    parts = [_read_part(row, name) for name in ("instruction", "input")]
    question = "\n".join(part for part in parts if part.strip())
    history = list(_read_history(row.get("history")))
    return join_turns([*history, question]) if history else question


def find_alpaca_answer(row: Mapping[str, Any], config: DataConfig) -> str:
    """Return the text of the label, or of `predict` where a model's answers are called so."""
    key = _choose_key(row, config.question_title, "output")
    key = key if key in row else "predict"
    if key not in row:
        refuse_row(
            "unlabelled",
            f"the row has no 'output'; it has {list_some(row)}. Set data.question_title to the key "
            "of the answer",
        )
    return show_answer(row[key])


def _choose_key(row: Mapping[str, Any], named: str, usual: str) -> str:
    return named if named in row else usual


def _read_part(row: Mapping[str, Any], name: str) -> str:
    part = row.get(name)
    if part in _EMPTY:
        return ""
    if not isinstance(part, str):
        refuse_row(
            "no-utterance",
            f"{name!r} must be text, not {name_type(part)}: correct it, or remove the key",
        )
    return part


def _read_history(history: object) -> Iterator[str]:
    turns: object = [] if history in _EMPTY else history
    if not isinstance(turns, list) or not all(map(_is_turn, turns)):
        refuse_row(
            "no-utterance",
            f"'history' must be a list of turns, each [question, answer], not "
            f"{shorten(repr(history))}: correct it, or remove the key",
        )
    for question, _ in turns:
        yield from (question or "").splitlines()


def _is_turn(turn: object) -> bool:
    if not isinstance(turn, list) or len(turn) != 2:
        return False
    return all(isinstance(text, str | None) for text in turn)


def _read_alternatives(
    row: Mapping[str, object], config: DataConfig, notes: list[Note]
) -> Iterator[str]:
    """The `alternatives` of a test row, other correct outputs, in canonical form."""
    given = row.get("alternatives")
    texts: object = [] if given in _EMPTY else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        refuse_row(
            "bad-calls",
            "'alternatives' must be a list of calls, each as text: correct it, or remove the key",
        )
    bound_items(texts, "alternatives")
    for text in texts:
        try:
            answers = StageAnswers([GivenAnswer(text, None)], [], [])
            chosen = choose_answer(answers, config, notes)
            yield finish_answer("", chosen, "given", config, notes).output
        except RowRefused as refused:
            reason, message = refused.args
            refuse_row(reason, f"'alternatives': {message}")


def _read_tags(row: Mapping[str, object]) -> dict[str, str]:
    """Return the `tags` of a test row, e.g. {"channel": "phone"}."""
    given = row.get("tags")
    if given in _EMPTY:
        return {}
    if not isinstance(given, dict):
        refuse_row(
            "not-an-object",
            f"'tags' must be an object, not {name_type(given)}: write it as "
            '{"tag": "value"}, or remove the key',
        )
    tags: Tags = pick_tags(given, given)
    return dict(tags)
