"""Gathers the text of an answer while it is passed on to the caller."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Protocol

from intent_core.serving.protocol.asgi import find_values
from intent_core.serving.protocol.errors import Headers

_LIMIT_BYTES = 64 * 1024
"""Longer answers are not gathered and not judged; no real calls are this long."""
_BATCH_BYTES = 16 * 1024


class AnswerText(Protocol):
    """Collects the bytes of an answer and returns its texts at the end."""

    def take(self, chunk: bytes) -> None: ...

    def read_texts(self) -> list[str]:
        """Return the text of each choice; [] if the answer is incomplete or not a chat answer."""
        ...

    def is_cut_off(self) -> bool:
        """Return whether a choice ended because it reached its maximum length."""
        ...


def gather_answer(status: int, headers: Headers) -> AnswerText | None:
    """Return a collector for an answer with this status and headers; None if not applicable."""
    if status != 200 or find_values(headers, b"content-encoding"):
        return None
    kinds = find_values(headers, b"content-type")
    kind = kinds[0].partition(b";")[0].strip() if kinds else b""
    if kind == b"application/json":
        return WholeAnswer()
    return StreamedAnswer() if kind == b"text/event-stream" else None


class WholeAnswer:
    """An answer that is a single JSON object."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._too_long = False

    def take(self, chunk: bytes) -> None:
        self._too_long = self._too_long or len(self._body) + len(chunk) > _LIMIT_BYTES
        if not self._too_long:
            self._body += chunk

    def read_texts(self) -> list[str]:
        if self._too_long:
            return []
        return [text for _, text in _read_choices(_parse(self._body), "message")]

    def is_cut_off(self) -> bool:
        return not self._too_long and _has_cut_off(_parse(self._body))


class StreamedAnswer:
    """An answer that is a stream of server-sent events, in chunks of any size.

    Events are parsed in batches, which costs far less than parsing each one as it arrives.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._texts: dict[int, list[str]] = defaultdict(list)
        self._size = 0
        self._whole = False
        self._given_up = False
        self._cut_off = False

    def take(self, chunk: bytes) -> None:
        if not self._given_up:
            self._pending += chunk
            if len(self._pending) > _BATCH_BYTES:
                self._read_events()

    def read_texts(self) -> list[str]:
        self._read_events()
        if not self._whole or self._given_up:
            return []
        return ["".join(texts) for texts in self._texts.values()]

    def is_cut_off(self) -> bool:
        self._read_events()
        return self._cut_off

    def _read_events(self) -> None:
        *lines, self._pending = self._pending.split(b"\n")
        events = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        if events and events[-1] == b"[DONE]":
            self._whole = True
            events.pop()
        answers = _parse(b"[" + b",".join(events) + b"]")
        for answer in answers if isinstance(answers, list) else ():
            self._cut_off = self._cut_off or _has_cut_off(answer)
            for index, text in _read_choices(answer, "delta"):
                self._size += len(text)
                self._texts[index].append(text)
        lost = answers is None or len(self._pending) > _LIMIT_BYTES or self._size > _LIMIT_BYTES
        self._given_up = self._given_up or lost


def _parse(content: bytes | bytearray) -> Any:
    """Return the parsed JSON; None if it is invalid."""
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError):
        return None


def _read_choices(answer: Any, part: str) -> Iterator[tuple[int, str]]:
    """Yield index and text of each choice that has a text."""
    for choice in _list_choices(answer):
        message = choice.get(part)
        text = message.get("content") if isinstance(message, dict) else None
        if isinstance(text, str) and isinstance(choice.get("index", 0), int):
            yield choice.get("index", 0), text


def _has_cut_off(answer: Any) -> bool:
    return any(choice.get("finish_reason") == "length" for choice in _list_choices(answer))


def _list_choices(answer: Any) -> list[dict[str, Any]]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    return [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
