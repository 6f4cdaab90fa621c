"""Conversations: chat messages (`messages`, role and content) and ShareGPT (`conversations`).

The utterance is the user's turns, joined as in the PAI guide. The label is the assistant's last
turn, if it follows the user's last one.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from intent_core.exports.annotators import ROW_KEYS, find_annotator
from intent_core.exports.files.json_rows import list_some, name_type, refuse_row, shorten
from intent_core.exports.label_results import GivenAnswer, StageAnswers, show_answer
from intent_core.exports.row_answer import (
    Note,
    RowAnswer,
    choose_answer,
    finish_answer,
    note_unread,
    read_utterance,
)
from intent_core.language.conversation import Speakers, join_turns
from intent_core.language.invisible import strip_invisible
from intent_core.recipe.config import DataConfig

_KEYS = ("messages", "conversations", "conversation")
# The formats' own names, whatever `data.speakers` is.
_ROLES: dict[str, Literal["user", "agent"]] = {
    "user": "user",
    "human": "user",
    "assistant": "agent",
    "gpt": "agent",
}
_IGNORED = {"system", "developer", "tool", "function", "observation", "function_call", "tool_call"}


class _Turn(NamedTuple):
    speaker: Literal["user", "agent", "other"]
    text: str

    @property
    def is_user(self) -> bool:
        return self.speaker == "user"


def is_chat_row(row: Mapping[str, Any]) -> bool:
    return any(isinstance(row.get(key), list) for key in _KEYS) and "data" not in row


def read_chat_row(row: Mapping[str, Any], config: DataConfig, notes: list[Note]) -> RowAnswer:
    turns = _read_turns(row, config)
    utterance = read_utterance({"instruction": _join_user(turns)}, "instruction", notes)
    annotator = find_annotator(row, ROW_KEYS)
    label = GivenAnswer(_find_last_answer(turns), None, annotator=annotator)
    answers = StageAnswers([label], [], [])
    given = choose_answer(answers, config, notes)
    _note_unread(row, turns, config, notes)
    return finish_answer(utterance, given, "given", config, notes)


def _note_unread(
    row: Mapping[str, Any], turns: list[_Turn], config: DataConfig, notes: list[Note]
) -> None:
    """Note what is neither the user's nor the label; earlier answers are no text for a model."""
    last_user = max((n for n, turn in enumerate(turns) if turn.is_user), default=-1)
    last = max((n for n, turn in enumerate(turns) if turn.speaker == "agent"), default=-1)
    others = [turn.text for turn in turns if turn.speaker == "other"]
    answers = [turn.text for turn in turns[last_user + 1 : last] if turn.speaker == "agent"]
    unread = {"messages of other roles": others, "answers before the last one": answers}
    rest = {key: value for key, value in row.items() if key not in _KEYS}
    note_unread(unread | rest, ["id", config.group_by, *ROW_KEYS], notes)


def find_chat_utterance(row: Mapping[str, Any], config: DataConfig) -> object:
    """Return the user's turns of a conversation, joined."""
    return _join_user(_read_turns(row, config))


def find_chat_answer(row: Mapping[str, Any], config: DataConfig) -> str:
    """Return the assistant's turn after the user's last one."""
    return _find_last_answer(_read_turns(row, config))


def _find_last_answer(turns: list[_Turn]) -> str:
    last_user = max((n for n, turn in enumerate(turns) if turn.is_user), default=-1)
    answers = [turn.text for turn in turns[last_user + 1 :] if turn.speaker == "agent"]
    if not answers:
        refuse_row(
            "unlabelled",
            "the conversation has no turn of the assistant after the user's last one, whose text "
            "is the label: label it",
        )
    return answers[-1]


def _join_user(turns: list[_Turn]) -> str:
    return join_turns(line for turn in turns if turn.is_user for line in turn.text.splitlines())


def _read_turns(row: Mapping[str, Any], config: DataConfig) -> list[_Turn]:
    messages = next((row[key] for key in _KEYS if isinstance(row.get(key), list)), None)
    if messages is None:
        refuse_row(
            "no-utterance",
            f"the row has no list of messages under 'messages'; it has {list_some(row) or 'no key'}"
            ". Check data.format",
        )
    return [_read_turn(message, config.speakers) for message in messages]


def _read_turn(message: object, speakers: Speakers) -> _Turn:
    if not isinstance(message, dict):
        refuse_row(
            "not-an-object",
            f"a message must be an object, not {name_type(message)}: write it as "
            '{"role": "user", "content": "..."}',
        )
    role = message.get("role", message.get("from"))
    if not isinstance(role, str):
        refuse_row(
            "no-utterance",
            "a message has no 'role' (or 'from') that names the speaker: add it, such as 'user'",
        )
    speaker = strip_invisible(role).strip().casefold()
    known = speakers.find_role(speaker) or _ROLES.get(speaker)
    if known is None and speaker not in _IGNORED:
        refuse_row(
            "no-utterance",
            f"the speaker {shorten(role)} is not known: add it to data.speakers.user or "
            "data.speakers.agent",
        )
    content = message.get("content", message.get("value"))
    if known is None:
        return _Turn("other", content if isinstance(content, str) else show_answer(content))
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    wrong = next((text for text in texts if not isinstance(text, str | None)), None)
    if wrong is not None:
        refuse_row(
            "no-utterance",
            f"the 'content' of a message must be text, not {name_type(wrong)}: correct it",
        )
    return _Turn(known, "\n".join(text for text in texts if text))
