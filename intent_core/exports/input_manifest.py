"""Create an iTAG input manifest from utterances, for labelling.

The input is text, CSV, JSON, JSONL or a manifest, with one utterance per line, or conversations. A
conversation becomes one instruction, as in the PAI guide: the user's turns, in order. An unusable
line becomes an `UnusableLine`; repeats that differ only in width, case or whitespace are counted.
The manifest has one `{"data":{"instruction":"..."}}` per line.
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
from intent_core.exports.files.json_rows import MAX_RAW, name_type, parse_json, shorten
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
"""(line number, original text, value)"""
_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


class UnusableLine(BaseModel):
    """A line, or a row that starts on it, without a usable utterance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    reason: str
    raw: str
    """The first 2000 characters of the original text."""


class UtteranceReading(BaseModel):
    """The utterances and unusable lines of one file, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterances: tuple[str, ...]
    rejections: tuple[UnusableLine, ...]
    num_duplicates: int
    """Number of utterances left out because they repeat an earlier one."""


class _Unusable(Exception):
    """Passes the reason to the caller, which adds the line number."""


def read_utterances(path: Path, field: str = "instruction") -> UtteranceReading:
    """Read all utterances of a file.

    - `.csv`, `.tsv`: a header, then the column `field`.
    - `.json`, `.jsonl`, `.manifest`, and files with such content: texts, `{field: ...}`,
      `{"data": {field: ...}}` or chats (`{"messages": [{"role", "content"}]}`), one per line or in
      one array.
    - other files: one utterance per line. Lines up to the next empty line are one conversation if
      the first one starts with a speaker, unless each of them contains several turns.

    Conversations are flattened, except under `data`, where the text is kept unchanged.

    Args:
        path: the file, in UTF-8, or UTF-16 with a byte order mark.
        field: column or key of the utterance.

    Raises:
        DataError: the file cannot be read or does not contain a usable utterance.
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
        raise DataError(
            f"{path} does not contain a usable utterance{first}: write one utterance per line, in "
            "UTF-8"
        )
    utterances = tuple(kept.values())
    return UtteranceReading(
        utterances=utterances, rejections=tuple(rejections), num_duplicates=num_read - len(kept)
    )


def write_manifest(utterances: Iterable[str], path: Path, field: str = "instruction") -> int:
    """Write an iTAG input manifest atomically and return its number of lines.

    Args:
        utterances: the utterances to label.
        path: the manifest to write.
        field: key of the utterance under `data`.

    Raises:
        DataError: an utterance is empty or contains characters that `read_utterances` rejects.
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
    # A byte order mark inside the text is left from joining two files.
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
        raise DataError(f"{path}:{line} is not UTF-8: save the file as UTF-8") from error


def _read_table(text: str, field: str, path: Path) -> Iterator[_SourceRow]:
    lines = list(io.StringIO(text, newline=""))
    # Without `strict`, a quote that is not closed would silently absorb all following rows.
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
                    raise DataError(
                        f"{path} does not have a column {field!r}; its columns are {there}. Select "
                        "one with --field"
                    )
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
            # The start of the next row is unknown, so the rest of the array is one error.
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
    raise _Unusable(f"the row has no key {field!r}; it has {there}")


def _read_message(message: Any) -> list[str]:
    """Return the lines of a user's message; its content is text, or a list of parts with text."""
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
        raise _Unusable("empty, or a conversation without a turn of the user")
    if _UNWRITABLE.search(utterance):
        raise _Unusable(
            "the utterance contains a NUL character or an unpaired UTF-16 surrogate: save the file "
            "as UTF-8"
        )
    return utterance
