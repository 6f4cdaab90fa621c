"""Utterances to an iTAG input manifest: what is to be labelled.

Utterances come as text, CSV, JSON, JSONL or a manifest, one a line or as conversations, which
become one instruction each as in the documents: the user's turns, in order. A line that cannot
be used becomes an `UnusableLine`, a repeat (in width, case or blanks) is counted. The manifest
is one `{"data":{"instruction":"..."}}` a line.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError
from intent_core.exports.json_rows import MAX_RAW, name_type, parse_json, shorten
from intent_core.files import write_atomically
from intent_core.language.conversation import (
    begins_with_speaker,
    flatten_turns,
    join_turns,
    split_line,
)
from intent_core.language.utterances import normalise_utterance

_ROWS = re.compile(r'\s*(\{\s*"|\[\s*[{"])')
_ARRAY_GAP = re.compile(r"[\s,\]]*")
_SourceRow = tuple[int, str, object]
"""(line, text as it stands, value)"""
_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


class UnusableLine(BaseModel):
    """A line, or a row that starts on it, that gives no utterance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    reason: str
    raw: str
    """The text as it stands, its first 2000 characters."""


class UtteranceReading(BaseModel):
    """Everything one file says, in the file's order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterances: tuple[str, ...]
    rejections: tuple[UnusableLine, ...]
    num_duplicates: int
    """Utterances left out because an earlier one says the same."""


class _Unusable(Exception):
    """Carries the reason to the caller, which knows the place."""


def read_utterances(path: Path, field: str = "instruction") -> UtteranceReading:
    """Read every utterance; `DataError` when the file cannot be read or gives none.

    - `.csv`, `.tsv`: a header, then the column `field`.
    - `.json`, `.jsonl`, `.manifest`, and what looks like one of them: texts, `{field: ...}`,
      `{"data": {field: ...}}` or chats (`{"messages": [{"role", "content"}]}`), one a line or in
      one array.
    - else: one utterance a line. Lines up to the next blank one are one conversation where the
      first begins with a speaker, unless each of them holds several turns itself.

    Conversations are flattened everywhere but under `data`, where a text stays as it is.
    """
    kept: dict[str, str] = {}
    rejections = []
    num_read = 0
    for line, raw, value in _read_file(path, field):
        try:
            utterance = _check(_find_utterance(value, field))
        except _Unusable as fault:
            rejections.append(UnusableLine(line=line, reason=str(fault), raw=raw[:MAX_RAW]))
        else:
            num_read += 1
            kept.setdefault(normalise_utterance(utterance), utterance)
    if not kept:
        first = f" (line {rejections[0].line}: {rejections[0].reason})" if rejections else ""
        raise DataError(f"{path} holds no usable utterance{first}: write one a line, as UTF-8")
    utterances = tuple(kept.values())
    return UtteranceReading(
        utterances=utterances, rejections=tuple(rejections), num_duplicates=num_read - len(kept)
    )


def write_manifest(utterances: Iterable[str], path: Path, field: str = "instruction") -> int:
    """Write an iTAG input manifest, whole or not at all, and return its number of lines.

    `DataError` for an utterance that `read_utterances` would refuse.
    """
    lines = []
    for number, utterance in enumerate(utterances, 1):
        try:
            row = {"data": {field: _check(utterance)}}
        except _Unusable as fault:
            raise DataError(f"utterance {number} cannot be labelled: {fault}") from fault
        lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    write_atomically(path, b"".join(lines))
    return len(lines)


def _read_file(path: Path, field: str) -> Iterator[_SourceRow]:
    text = _read_text(path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _read_table(text, field, path)
    # A byte-order mark inside is where two files were joined.
    lines = (line.strip().removeprefix("\ufeff") for line in io.StringIO(text, newline=None))
    if suffix not in (".json", ".jsonl", ".manifest") and not _ROWS.match(text):
        return _read_lines(enumerate(lines, 1))
    return _read_array(text) if text.lstrip()[:1] == "[" else _read_rows(enumerate(lines, 1))


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path") from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: this is not UTF-8: save as UTF-8") from error


def _read_table(text: str, field: str, path: Path) -> Iterator[_SourceRow]:
    lines = list(io.StringIO(text, newline=""))
    # Strict: a quote that is never closed would swallow every row after it.
    rows = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    columns: list[str] = []
    end = 0
    try:
        for cells in rows:
            start, end = end, rows.line_num
            is_filled = any(map(str.strip, cells))
            if columns and is_filled:
                cell = dict(zip(columns, cells, strict=False)).get(field, "")
                yield (start + 1, "".join(lines[start:end]), cell)
            elif is_filled:
                columns = [name.strip() for name in cells]
                if field not in columns:
                    there = ", ".join(map(shorten, columns))
                    raise DataError(f"{path} has no column {field!r}, but {there}: name one")
    except csv.Error as error:
        raise DataError(f"{path}:{end + 1}: {error}: correct the quotes of this row") from error


def _read_lines(numbered: Iterable[tuple[int, str]]) -> Iterator[_SourceRow]:
    for is_filled, lines in groupby(numbered, key=lambda line: line[1] != ""):
        block = list(lines)
        number, first = block[0]
        if begins_with_speaker(first) and any(len(split_line(line)) < 2 for _, line in block):
            whole = "\n".join(line for _, line in block)
            yield (number, whole, whole)
        elif is_filled:
            yield from ((number, line, line) for number, line in block)


def _read_rows(numbered: Iterable[tuple[int, str]]) -> Iterator[_SourceRow]:
    for number, line in numbered:
        if line:
            try:
                yield (number, line, parse_json(line))
            except (ValueError, RecursionError) as error:
                yield (number, line, _Unusable(f"not JSON: {error}"))


def _read_array(text: str) -> Iterator[_SourceRow]:
    decoder = json.JSONDecoder()
    end = text.index("[") + 1
    line = 1 + text.count("\n", 0, end)
    while (gap := _ARRAY_GAP.match(text, end)) and (start := gap.end()) < len(text):
        line += text.count("\n", end, start)
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            # Where the next row begins is anyone's guess: the rest is one fault.
            yield (line, text[start:], _Unusable(f"not JSON from here on: {error}"))
            return
        yield (line, text[start:end], value)
        line += text.count("\n", start, end)


def _find_utterance(row: Any, field: str) -> object:
    if isinstance(row, _Unusable):
        raise row
    if isinstance(row, str):
        return flatten_turns(row)
    if not isinstance(row, dict):
        raise _Unusable(f"a row must be text or an object, not {name_type(row)}")
    inner = row["data"] if isinstance(row.get("data"), dict) else {}
    if field in inner:
        return inner[field]
    if field in row:
        return flatten_turns(row[field]) if isinstance(row[field], str) else row[field]
    if isinstance(row.get("messages"), list):
        return join_turns(line for message in row["messages"] for line in _read_message(message))
    there = ", ".join(map(shorten, inner or row)) or "nothing"
    raise _Unusable(f"no {field!r} (there is {there})")


def _read_message(message: Any) -> list[str]:
    """The lines of a user's message; its content is text, or parts with a text each."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise _Unusable("a message must be an object with 'role' and 'content'")
    if message["role"].lower() != "user":
        return []
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return [line for text in texts if text != "" for line in _check(text).splitlines()]


def _check(utterance: object) -> str:
    if not isinstance(utterance, str):
        raise _Unusable(f"an utterance must be text, not {name_type(utterance)}")
    if not utterance.strip():
        raise _Unusable("empty, or a conversation in which no turn is the user's")
    if _UNWRITABLE.search(utterance):
        raise _Unusable("a NUL or half a surrogate pair in the utterance: save as UTF-8")
    return utterance
