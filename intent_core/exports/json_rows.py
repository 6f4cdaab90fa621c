"""Parse the JSON objects of a line or of an array into rows; unparsable text becomes a fault."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, NoReturn

import orjson
from pydantic import BaseModel, ConfigDict

from intent_core.exports.blocks import BOM, MAX_LINE_BYTES, Block
from intent_core.recipe.choices import Leniency

MAX_OBJECTS_A_LINE = 1000
MAX_RAW = 2000
_NEXT_ROW = re.compile(r"\}\s*,\s*\{|\n\s*\{")
_BLANKS = " \t\r\n\ufeff"
# Python raises on longer integers (limit 4300 digits). Such values are never used: read infinity.
_MAX_DIGITS = 4000
_DECODER = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < _MAX_DIGITS else math.inf
)

RejectionReason = Literal[
    Leniency,
    "not-json",
    "truncated",
    "too-long",
    "bad-encoding",
    "not-an-object",
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
    "forgotten",
]

Slips = tuple[tuple[Leniency, str], ...]


class RowFault(BaseModel):
    """The reason why a row is rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    raw = body[: MAX_RAW * 4].decode("utf-8", "replace")
    try:
        yield Row(number, offset, raw, orjson.loads(body))
        return
    except ValueError:
        pass
    # An invalid byte becomes a surrogate, which is an error only in the fields that we read.
    text = body.decode("utf-8", "surrogateescape")
    yield from _parse_values(text, number, offset, is_last=not line.endswith(b"\n"))


def parse_array(block: Block) -> Iterator[Row]:
    """Parse the values of an array; after a broken value, continue at the start of the next."""
    text = block.content.decode("utf-8", "surrogateescape")
    place = _Place(text, block.line, block.offset)
    start = _skip_blanks(text, text.index("[") + 1)
    slips: Slips = ()
    while start < len(text):
        if text[start] in "[]":
            # The end of the array. If files were joined, another array follows.
            slips = (("several-objects", "the row follows the end of an array"),)
            start = _skip_blanks(text, start + 1)
            continue
        line, offset = place.move(start)
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            end = _find_next(text, start)
            is_last = end == len(text) and not text.rstrip().endswith("]")
            fault = _json_fault(error, is_last)
            yield Row(line, offset, text[start:end][:MAX_RAW], fault=fault)
            start, slips = end, ()
            continue
        following = _skip_blanks(text, end)
        sign = text[following : following + 1]
        if sign == ",":
            following = _skip_blanks(text, following + 1)
            if text.startswith("]", following):
                slips += (("trailing-comma", "there is a comma after the last row of the array"),)
        elif sign != "]":
            slips += (("missing-comma", "there is no comma or ']' after this row"),)
        yield Row(line, offset, text[start:end][:MAX_RAW], value, slips=slips)
        start, slips = following, ()


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
    raise RowRefused(reason, message)


def shorten(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def name_type(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "text", type(None): "null"}
    return names.get(type(value), "a number or boolean")


def _parse_values(text: str, line: int, offset: int, is_last: bool) -> Iterator[Row]:
    """Parse what orjson rejects: several objects on one line, lone surrogates, broken rows."""
    start = 0
    slips: Slips = ()
    num_objects = 0
    while start < len(text):
        num_objects += 1
        if num_objects > MAX_OBJECTS_A_LINE:
            message = (
                f"the line has more than {MAX_OBJECTS_A_LINE} objects and its rest is not read: "
                "write one object per line"
            )
            fault = RowFault(reason="too-long", message=message)
            yield Row(line, offset, text[start : start + MAX_RAW], fault=fault)
            return
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            fault = _json_fault(error, is_last)
            yield Row(line, offset, text[start : start + MAX_RAW], fault=fault)
            return
        yield Row(line, offset, text[start:end][:MAX_RAW], value, slips=slips)
        slips = (("several-objects", "the row is not the first object on its line"),)
        following = _skip_blanks(text, end)
        offset += _count_utf8(text[start:following])
        start = following


class _Place:
    """Tracks line and byte offset of a position that only moves forward."""

    def __init__(self, text: str, line: int, offset: int) -> None:
        self._text, self._line, self._offset, self._position = text, line, offset, 0

    def move(self, position: int) -> tuple[int, int]:
        passed = self._text[self._position : position]
        self._line += passed.count("\n")
        self._offset += _count_utf8(passed)
        self._position = position
        return self._line, self._offset


def _find_next(text: str, start: int) -> int:
    """Find the row after a broken one: a brace on a new line, or after `},`."""
    match = _NEXT_ROW.search(text, start + 1)
    return match.end() - 1 if match else len(text)


def _skip_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start] in _BLANKS:
        start += 1
    return start


def _count_utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _json_fault(error: Exception, is_last: bool) -> RowFault:
    if isinstance(error, RecursionError):
        return RowFault(reason="not-json", message="the row is nested too deeply to be parsed")
    if is_last:
        message = f"the file ends inside this row ({error}): export or download it again"
        return RowFault(reason="truncated", message=message)
    return RowFault(reason="not-json", message=f"the row is not valid JSON: {error}")
