"""Parse the JSON objects of a line or of an array into rows; unparsable text becomes a fault."""

import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, NoReturn

import orjson

from intent_core.exports.files.blocks import BOM, MAX_LINE_BYTES
from intent_core.exports.files.repeated_keys import Repeats, RepeatSeeker, find_repeats
from intent_core.recipe.choices import Leniency

MAX_RAW = 2000
_SHORT_LINE = 8
# An error this close to the end of a piece of text may come from the cut.
_TAIL = 16
_PIECE = 4096
_LINE_ENDS = frozenset("\r\n")
_BLANKS = " \t\r\n\ufeff"

TOO_DEEP = "the row is nested too deeply to be parsed: remove what is not the text or the label"
EXPORT_AGAIN = "correct it, or export the labelled data again"

RejectionReason = Literal[
    Leniency,
    "not-json",
    "truncated",
    "too-long",
    "bad-encoding",
    "not-an-object",
    "wrong-cells",
    "repeated-key",
    "no-utterance",
    "empty-utterance",
    "bad-characters",
    "abandoned",
    "unlabelled",
    "bad-label",
    "no-answer",
    "empty-answer",
    "annotators-disagree",
    "bad-calls",
    "too-many-tokens",
    "forgotten",
]

Slips = tuple[tuple[Leniency, str], ...]
_TYPE_NAMES = {dict: "an object", list: "an array", str: "text", type(None): "null"}
_OTHER_TYPE = "a number or boolean"
TYPE_NAMES = (*_TYPE_NAMES.values(), _OTHER_TYPE)
_NOT_FIRST: Slips = (("several-objects", "this is not the first object on its line"),)


class RowFault(NamedTuple):
    """The reason why a row is rejected."""

    reason: RejectionReason
    message: str


class RowRefused(Exception):
    """Passes (reason, message) to `read_answer`, which returns them as a `RowFault`."""


class Row(NamedTuple):
    """One object of the file: its parsed value, or a fault."""

    line: int
    offset: int
    raw: str
    value: object = None
    fault: RowFault | None = None
    slips: Slips = ()
    """Deviations from the format: (kind, message)."""
    repeats: Repeats = ()
    """Keys that one of its objects has more than once."""


def parse_line(line: bytes, number: int, offset: int) -> Iterator[Row]:
    """Parse the objects of one line, normally one.

    Args:
        line: the line with its line end; a line without one is taken as the last of the file.
        number: line number, from 1.
        offset: start of the line in the file, in bytes.
    """
    body = line.strip().removeprefix(BOM).strip()
    if not body:
        return
    offset += line.find(body)
    is_last = not line.endswith(b"\n")
    if len(body) > _SHORT_LINE:
        yield from _parse_body(body, number, offset, is_last)
        return
    for row in _parse_short(body, is_last):
        yield Row(number, offset + row.offset, *row[2:])


def _parse_body(body: bytes, number: int, offset: int, is_last: bool) -> Iterator[Row]:
    raw = body[: MAX_RAW * 4].decode("utf-8", "replace")
    try:
        value = orjson.loads(body)
    except ValueError:
        pass
    else:
        yield Row(number, offset, raw, value, repeats=find_repeats(body, value))
        return
    # An invalid byte becomes a surrogate, which is an error only in the fields that we read.
    text = body.decode("utf-8", "surrogateescape")
    yield from _parse_values(text, number, offset, is_last)


@functools.lru_cache(maxsize=4096)
def _parse_short(body: bytes, is_last: bool) -> tuple[Row, ...]:
    """The rows of a line such as `{}`, placed at 0: a file may have millions of such lines."""
    return tuple(_parse_body(body, 0, 0, is_last))


def refuse_cut(line: bytes, number: int, offset: int) -> Row:
    """Return the row for a line that is too long to be read."""
    message = f"the line is longer than {MAX_LINE_BYTES >> 20} MiB: write one row per line"
    raw = line[:MAX_RAW].decode("utf-8", "replace")
    return Row(number, offset, raw, fault=RowFault(reason="too-long", message=message))


def parse_json(text: str | bytes) -> Any:
    """Parse with orjson, or else with the slower json module, which accepts lone surrogates."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


def refuse_row(reason: RejectionReason, message: str) -> NoReturn:
    """Refuse the row that is being read.

    Args:
        reason: the kind of the rejection.
        message: what is wrong, the value, and what to do.

    Raises:
        RowRefused: always.
    """
    raise RowRefused(reason, message)


def shorten(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def list_some(names: Iterable[str], limit: int = 10) -> str:
    """List names for a message: each once, at most `limit` of them.

    Args:
        names: any texts.
        limit: how many are listed; of the others only the number.
    """
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - limit} more" if len(each) > limit else ""
    return ", ".join(shorten(name) for name in each[:limit]) + more


def name_type(value: object) -> str:
    """Name the JSON type of a value for a message.

    Args:
        value: a parsed JSON value.
    """
    return _TYPE_NAMES.get(type(value), _OTHER_TYPE)


def decode_value(text: str, start: int) -> tuple[Any, int, Repeats]:
    """Parse the JSON value at a position; return it, where it ends, and its repeated keys.

    Args:
        text: any text.
        start: where the value starts.

    Raises:
        JSONDecodeError: there is no value; the error's `doc` starts where the value does.
        RecursionError: the value is nested too deeply.
    """
    # An error counts the lines before it. In a long text that would cost more than the parsing.
    size = _PIECE
    while True:
        piece = text[start : start + size]
        is_whole = start + size >= len(text)
        seeker = RepeatSeeker()
        try:
            value, end = seeker.decoder.raw_decode(piece)
        except json.JSONDecodeError as error:
            if is_whole or not may_be_cut(error):
                raise
        else:
            if is_whole or end < len(piece) or isinstance(value, dict):
                return value, start + end, tuple(seeker.repeats)
        size *= 8


def may_be_cut(error: json.JSONDecodeError) -> bool:
    """Return whether a value may only lack its end.

    Args:
        error: why it could not be parsed.
    """
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - _TAIL


class ObjectSeeker:
    """Finds where reading continues after a broken row: the next brace that starts a line or
    follows an object. The text may come in pieces."""

    def __init__(self, first: str) -> None:
        self._before, self._last = "", first
        self._is_new_line = False

    def find(self, text: str, start: int) -> int:
        """Return the position of the brace; -1 if there is none yet.

        Args:
            text: any text.
            start: the first position that was not passed yet.
        """
        while True:
            brace = text.find("{", start)
            self._pass(text[start:brace] if brace >= 0 else text[start:])
            if brace < 0:
                return -1
            if self._is_new_line or (self._before if self._last == "," else self._last) == "}":
                return brace
            self._before, self._last = self._last, "{"
            start = brace + 1

    def _pass(self, piece: str) -> None:
        filled = piece.rstrip()
        if filled:
            self._before = filled[:-1].rstrip()[-1:] or self._last
            self._last = filled[-1]
            self._is_new_line = False
        self._is_new_line |= not _LINE_ENDS.isdisjoint(piece[len(filled) :])


def _parse_values(text: str, line: int, offset: int, is_last: bool) -> Iterator[Row]:
    """Parse what orjson rejects: several objects on one line, lone surrogates, broken rows."""
    start = 0
    slips: Slips = ()
    while start < len(text):
        try:
            value, end, repeats = decode_value(text, start)
        except (ValueError, RecursionError) as error:
            following = ObjectSeeker(text[start]).find(text, start + 1)
            end = following if following >= 0 else len(text)
            fault = _json_fault(error, is_last and following < 0)
            yield Row(line, offset, text[start : min(end, start + MAX_RAW)], fault=fault)
        else:
            raw = text[start : min(end, start + MAX_RAW)]
            yield Row(line, offset, raw, value, slips=slips, repeats=repeats)
        slips = _NOT_FIRST
        following = _skip_blanks(text, end)
        offset += len(text[start:following].encode("utf-8", "surrogateescape"))
        start = following


def _skip_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start] in _BLANKS:
        start += 1
    return start


def _json_fault(error: Exception, is_last: bool) -> RowFault:
    if isinstance(error, RecursionError):
        return RowFault(reason="not-json", message=TOO_DEEP)
    if is_last:
        message = f"the file ends inside this row ({error}): export or download it again"
        return RowFault(reason="truncated", message=message)
    return RowFault(
        reason="not-json", message=f"the row is not valid JSON: {error}; {EXPORT_AGAIN}"
    )
