"""Parse the JSON objects of a line or of an array into rows; unparsable text becomes a fault."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, NoReturn

import orjson
from pydantic import BaseModel, ConfigDict

from intent_core.exports.files.blocks import BOM, MAX_LINE_BYTES
from intent_core.recipe.choices import Leniency

MAX_RAW = 2000
# A brace that starts a line or follows an object: where reading continues after a broken one.
NEXT_OBJECT = re.compile(r"\}\s*,?\s*(?=\{)|\n\s*(?=\{)")
_BLANKS = " \t\r\n\ufeff"
# Python raises on longer integers (limit 4300 digits). Such values are never used: read infinity.
_MAX_DIGITS = 4000
DECODER = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < _MAX_DIGITS else math.inf
)

RejectionReason = Literal[
    Leniency,
    "not-json",
    "truncated",
    "too-long",
    "bad-encoding",
    "not-an-object",
    "wrong-cells",
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
    names = {dict: "an object", list: "an array", str: "text", type(None): "null"}
    return names.get(type(value), "a number or boolean")


def _parse_values(text: str, line: int, offset: int, is_last: bool) -> Iterator[Row]:
    """Parse what orjson rejects: several objects on one line, lone surrogates, broken rows."""
    start = 0
    slips: Slips = ()
    while start < len(text):
        try:
            value, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            # Reading continues where the next object starts.
            match = NEXT_OBJECT.search(text, start + 1)
            end = match.end() if match else len(text)
            fault = _json_fault(error, is_last and not match)
            yield Row(line, offset, text[start : min(end, start + MAX_RAW)], fault=fault)
        else:
            yield Row(line, offset, text[start:end][:MAX_RAW], value, slips=slips)
        slips = (("several-objects", "this is not the first object on its line"),)
        following = _skip_blanks(text, end)
        offset += len(text[start:following].encode("utf-8", "surrogateescape"))
        start = following


def _skip_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start] in _BLANKS:
        start += 1
    return start


def _json_fault(error: Exception, is_last: bool) -> RowFault:
    if isinstance(error, RecursionError):
        return RowFault(reason="not-json", message="the row is nested too deeply to be parsed")
    if is_last:
        message = f"the file ends inside this row ({error}): export or download it again"
        return RowFault(reason="truncated", message=message)
    return RowFault(reason="not-json", message=f"the row is not valid JSON: {error}")
