"""How far an unfinished answer is: in a name, in an argument, or after a call."""

from collections.abc import Iterator
from dataclasses import dataclass, field

_CLOSERS = {"(": ")", "（": "）"}


@dataclass
class AnswerProgress:
    """What an unfinished answer contains."""

    intent: str = ""
    """Intent of the last call; "" before the first one."""
    is_open: bool = False
    """Whether the parenthesis of the last call is open."""
    is_closed: bool = False
    """Whether the last call is complete. Neither open nor closed: a name is being written."""
    text: str = ""
    """The unfinished name or argument."""
    arguments: list[str] = field(default_factory=list)
    """The complete arguments of all calls, as written."""
    in_call: int = 0
    """Number of complete arguments of the last call."""


def read_progress(answer: str) -> AnswerProgress | None:
    """Return the progress of an unfinished answer; None if it does not consist of calls.

    Args:
        answer: the first characters of an answer.
    """
    progress = AnswerProgress()
    for sign, text in _split(answer):
        if not _add(progress, sign, text.strip()):
            return None
    return progress


def _split(answer: str) -> Iterator[tuple[str, str]]:
    """Yield the signs of the syntax, each with the text before it; the last sign is empty."""
    start = depth = 0
    for at in _outside_quotes(answer):
        sign = answer[at]
        depth += (sign in _CLOSERS) - (sign in ")）")
        at_depth = 1 if sign in _CLOSERS or sign in ",，" else 0
        if depth == at_depth:
            yield sign, answer[start:at]
            start = at + 1
    yield "", answer[start:]


def _outside_quotes(answer: str) -> Iterator[int]:
    """Yield the positions of the signs that are not in a quoted value."""
    is_quoted = is_escaped = is_start = False
    for at, character in enumerate(answer):
        if is_quoted:
            is_quoted = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"' and is_start:
            is_quoted = True
        elif character in "(),;（），；":
            yield at
        is_start = character in "(,=（，" or (is_start and character.isspace())


def _add(progress: AnswerProgress, sign: str, text: str) -> bool:
    """Add a part; return False if it is out of place."""
    was_open, was_closed = progress.is_open, progress.is_closed
    if not sign:
        progress.text = text
        return not (was_closed and text)
    if sign in _CLOSERS:
        progress.intent, progress.in_call, progress.is_open = text, 0, True
        return bool(text) and not was_closed
    if sign in ";；":
        progress.is_closed = False
        return was_closed and not text
    if text:
        progress.arguments.append(text)
        progress.in_call += 1
    progress.is_open, progress.is_closed = sign in ",，", sign in ")）"
    return was_open
