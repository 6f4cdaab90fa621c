"""Text to rows: the objects of one line, or of an array; what cannot be parsed is a fault."""

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
# Python refuses to read longer integers; nobody reads these.
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
    """Why a row is unusable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: RejectionReason
    message: str


class RowRefused(Exception):
    """Carries (reason, message) to `read_answer`, which makes a value of it."""


class Row(NamedTuple):
    """One object of the file, parsed or refused."""

    line: int
    offset: int
    raw: str
    value: object = None
    fault: RowFault | None = None
    slips: Slips = ()
    """Departures from the format: (kind, message)."""


def parse_line(line: bytes, number: int, offset: int) -> Iterator[Row]:
    """The objects of one line: one, as a rule. A line without an end ends the file."""
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
    # A broken byte becomes a surrogate, which matters only where it is read.
    text = body.decode("utf-8", "surrogateescape")
    yield from _parse_values(text, number, offset, is_last=not line.endswith(b"\n"))


def parse_array(block: Block) -> Iterator[Row]:
    """The values of an array; after a broken one reading goes on where the next one begins."""
    text = block.content.decode("utf-8", "surrogateescape")
    place = _Place(text, block.line, block.offset)
    start = _skip_blanks(text, text.index("[") + 1)
    slips: Slips = ()
    while start < len(text):
        if text[start] in "[]":
            # The end; what follows is another array, where files were joined.
            slips = (("several-objects", "follows the end of an array"),)
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
                slips += (("trailing-comma", "a comma follows the array's last row"),)
        elif sign != "]":
            slips += (("missing-comma", "no comma or ']' follows this row"),)
        yield Row(line, offset, text[start:end][:MAX_RAW], value, slips=slips)
        start, slips = following, ()


def refuse_cut(line: bytes, number: int, offset: int) -> Row:
    """The row of a line that was too long to be read."""
    message = f"the line is longer than {MAX_LINE_BYTES >> 20} MiB"
    raw = line[:MAX_RAW].decode("utf-8", "replace")
    return Row(number, offset, raw, fault=RowFault(reason="too-long", message=message))


def parse_json(text: str | bytes) -> Any:
    """Parse by orjson, and by the slower parser what only that one takes (lone surrogates)."""
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
    """What orjson does not take: several objects on one line, lone surrogates, broken rows."""
    start = 0
    slips: Slips = ()
    num_objects = 0
    while start < len(text):
        num_objects += 1
        if num_objects > MAX_OBJECTS_A_LINE:
            message = f"over {MAX_OBJECTS_A_LINE} objects on one line: the rest is not read"
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
        slips = (("several-objects", "not the first object on its line"),)
        following = _skip_blanks(text, end)
        offset += _count_utf8(text[start:following])
        start = following


class _Place:
    """Line and byte offset of a position that only moves forward."""

    def __init__(self, text: str, line: int, offset: int) -> None:
        self._text, self._line, self._offset, self._position = text, line, offset, 0

    def move(self, position: int) -> tuple[int, int]:
        passed = self._text[self._position : position]
        self._line += passed.count("\n")
        self._offset += _count_utf8(passed)
        self._position = position
        return self._line, self._offset


def _find_next(text: str, start: int) -> int:
    """Where the next row after a broken one begins: a brace on a new line, or after a comma."""
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
        return RowFault(reason="not-json", message="nested too deeply")
    if is_last:
        return RowFault(reason="truncated", message=f"the file ends inside a row: {error}")
    return RowFault(reason="not-json", message=str(error))
