"""Read any file of labelled rows or utterances into parts, in little memory.

A file is opened (`containers.py`), its kind is detected from the first bytes, and it is read as
JSON lines, an array, pretty-printed JSON, a table (CSV or TSV) or, for utterances only, text.
"""

import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

import orjson

from intent_core.errors import DataError
from intent_core.exports.files.blocks import (
    BOM,
    Block,
    Span,
    cut_lines,
    is_array,
    is_json,
    is_pretty,
    read_span,
)
from intent_core.exports.files.containers import Member, open_members, peek, reading
from intent_core.exports.files.json_rows import (
    MAX_RAW,
    Row,
    RowFault,
    parse_line,
    refuse_cut,
    shorten,
)
from intent_core.exports.files.json_stream import iter_values
from intent_core.exports.files.repeated_keys import select_repeats
from intent_core.exports.files.tables import TextLines, detect_table, read_table
from intent_core.language.conversation import Speakers, begins_with_speaker, split_line
from intent_core.recipe.config import DataConfig

_BATCH_ROWS, _BATCH_BYTES = 500, 1 << 20
_LONG_BLOCK = 1 << 20
_SNIFF_LINES = 20
_SHOWN = 40
# An object with one of these is a row, although it contains a list of objects.
_ROW_KEYS = {"instruction", "messages", "conversations", "conversation", "annotations", "text"}
_MAX_CONVERSATION = 1 << 20
_JSON_NAMES = (".json", ".jsonl", ".ndjson", ".manifest")
_WRAPPER = re.compile(
    rb'\{\s*"(?!instruction"|messages"|conversations?"|annotations"|text")[^"]{1,64}"\s*:\s*\[\s*\{'
)
_ROW_START = re.compile(rb'\{\s*["}]')
Kind = Literal["lines", "array", "values", "table", "text"]


class RowBatch(NamedTuple):
    """Some rows that were parsed already."""

    rows: list[Row]
    num_bytes: int = 0
    """Bytes read since the previous batch; 0 if unknown."""
    num_lines: int = 0
    """Lines that end with this batch, if they were cut from a block."""


class Part(NamedTuple):
    """Some rows of a file, with the name that records and rejections give as their source."""

    source: str
    rows: Block | RowBatch


def read_parts(
    path: Path, config: DataConfig, *, span: Span | None = None, with_text: bool = False
) -> Iterator[Part]:
    """Read a file, or a span of lines of it, part by part.

    Args:
        path: JSON lines, a JSON array, pretty-printed JSON, CSV or TSV; gzip or zip of any.
        config: the `data` section of the recipe; it names the columns of a table.
        span: read only these lines of an uncompressed file of lines. Lines are numbered from 1.
        with_text: read what is none of these as lines of text, one utterance each.

    Raises:
        DataError: the file cannot be read, or is none of these.
    """
    if span:
        yield from (Part(path.name, rows) for rows in _split_long(read_span(path, span)))
        return
    with reading(path):
        for member in open_members(path):
            for rows in _read_member(member, config, with_text):
                yield Part(member.name, rows)


def iter_rows(
    path: Path, config: DataConfig, *, with_text: bool = False
) -> Iterator[tuple[str, Row]]:
    """Read a file row by row, each with the name of its source.

    Args:
        path: as for `read_parts`.
        config: the `data` section of the recipe; it names the columns of a table.
        with_text: read what is none of these as lines of text, one utterance each.

    Raises:
        DataError: the file cannot be read, or is none of these.
    """
    for source, part in read_parts(path, config, with_text=with_text):
        rows = parse_block(part) if isinstance(part, Block) else part.rows
        yield from ((source, row) for row in rows)


def _split_long(blocks: Iterable[Block]) -> Iterator[Block | RowBatch]:
    """The blocks; one with a very long line, which may have millions of rows, in batches."""
    for block in blocks:
        if len(block.content) < _LONG_BLOCK:
            yield block
            continue
        rows = parse_block(block)
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
            yield RowBatch(batch)
        yield RowBatch([], len(block.content), block.num_lines)


def parse_block(block: Block) -> Iterator[Row]:
    """Parse the rows of a block.

    Args:
        block: whole lines.
    """
    number, offset = block.line, block.offset
    cut_at = offset + len(block.content) if block.is_cut else -1
    for line in io.BytesIO(block.content):
        if cut_at == offset + len(line):
            yield refuse_cut(line, number, offset)
        else:
            yield from parse_line(line, number, offset)
        number += 1
        offset += len(line)


def _read_member(member: Member, config: DataConfig, with_text: bool) -> Iterator[Block | RowBatch]:
    stream = member.stream
    start = peek(stream)
    delimiter = detect_table(start, member.name, config)
    kind = detect_kind(start)
    if with_text and kind in ("lines", "text"):
        kind = "text" if _is_text(start, member.name) else "lines"
    if kind in ("array", "values"):
        yield from _batch(_unwrap(iter_values(stream, is_array=kind == "array")))
    elif kind == "lines":
        yield from _split_long(cut_lines(stream))
    elif delimiter:
        yield from _batch(read_table(stream, delimiter, member.name, config))
    elif with_text:
        yield from _batch(_read_text(stream, member.name, config.speakers))
    else:
        raise DataError(_describe_unknown(start, member.name, config))


def detect_kind(start: bytes) -> Kind:
    """Return the kind of a file; `text` also for a table.

    Args:
        start: the first bytes of the file.
    """
    if b"\n" not in start:
        start = start.replace(b"\r", b"\n")
    body = start.removeprefix(BOM).lstrip()
    if is_array(start):
        return "array"
    if is_pretty(body) or _is_wrapper(body):
        return "values"
    lines = body.splitlines()[:_SNIFF_LINES]
    # A broken row among JSON lines is a rejection: one line of JSON is enough.
    if not body or body[:1] == b"{" or any(is_json(line) for line in lines):
        return "lines"
    return "text"


def _is_wrapper(body: bytes) -> bool:
    """Whether a file is one object on one line that wraps a list of rows."""
    line = body.rstrip()
    if b"\n" in line or not line.startswith(b"{"):
        return False
    # A longer line is not complete yet: its start must do.
    return bool(_WRAPPER.match(line)) or (
        is_json(line) and _find_wrapped(orjson.loads(line)) is not None
    )


def _is_text(start: bytes, name: str) -> bool:
    """Whether a file is text in spite of lines that are JSON by chance, such as `12306`."""
    body = start.removeprefix(BOM).lstrip()
    lines = body.splitlines()[:_SNIFF_LINES]
    if not body or name.lower().removesuffix(".gz").endswith(_JSON_NAMES):
        return False
    if _ROW_START.match(body) or any(line[:1] == b"{" and is_json(line) for line in lines):
        return False
    return not all(line[:1] in b'"[' and is_json(line) for line in lines if line.strip())


def _unwrap(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of an object that only wraps a list of them, such as {"data": [...]}."""
    for row in rows:
        wrapped = _find_wrapped(row.value)
        if wrapped is None:
            yield row
        for value in wrapped or ():
            raw = json.dumps(value, ensure_ascii=False)[:MAX_RAW]
            repeats = select_repeats(row.repeats, value)
            yield row._replace(value=value, raw=raw, repeats=repeats)


def _find_wrapped(value: object) -> list[object] | None:
    if not isinstance(value, dict) or value.keys() & _ROW_KEYS:
        return None
    lists = [items for items in value.values() if isinstance(items, list) and items]
    if len(lists) != 1 or isinstance(value.get("data"), dict):
        return None
    return lists[0] if all(isinstance(item, dict) for item in lists[0]) else None


def _batch(rows: Iterable[Row]) -> Iterator[RowBatch]:
    batch: list[Row] = []
    offset = 0
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH_ROWS or row.offset - offset > _BATCH_BYTES:
            yield RowBatch(batch, max(row.offset - offset, 0))
            batch, offset = [], row.offset
    if batch:
        yield RowBatch(batch, max(batch[-1].offset - offset, 0))


def _read_text(stream: IO[bytes], name: str, speakers: Speakers) -> Iterator[Row]:
    """One utterance per line; lines up to a blank one are one conversation if a speaker starts."""
    lines = TextLines(stream, name)
    conversation: list[Row] = []
    is_first, num_characters = True, 0
    for _ in lines:
        offset, raw = lines.take_raw()
        line = raw.strip().removeprefix("\ufeff").strip()
        row = Row(lines.number, offset, line[:MAX_RAW], line)
        if not line:
            yield from _end_conversation(conversation, num_characters, speakers)
            conversation, num_characters = [], 0
        elif conversation or (is_first and begins_with_speaker(line, speakers)):
            num_characters += len(line)
            if num_characters <= _MAX_CONVERSATION:
                conversation.append(row)
        else:
            yield row
        is_first = not line
    yield from _end_conversation(conversation, num_characters, speakers)


def _end_conversation(lines: list[Row], num_characters: int, speakers: Speakers) -> Iterator[Row]:
    texts = [str(row.value) for row in lines]
    if all(len(split_line(text, speakers)) > 1 for text in texts):
        yield from lines
        return
    whole = "\n".join(texts)
    row = lines[0]._replace(raw=whole[:MAX_RAW], value=whole)
    if num_characters > _MAX_CONVERSATION:
        message = (
            f"the conversation has {num_characters} characters; the maximum is "
            f"{_MAX_CONVERSATION}: write a blank line after each conversation"
        )
        row = row._replace(fault=RowFault(reason="too-long", message=message))
    yield row


def _describe_unknown(start: bytes, name: str, config: DataConfig) -> str:
    text = start.removeprefix(BOM).lstrip()[: 4 * _SHOWN].decode("utf-8", "replace")
    first = next(iter(text.splitlines()), "")
    return (
        f"{name} is not JSON and has no header with the column {config.utterance_field!r}: it "
        f"starts with {shorten(first, _SHOWN)}. Export it as JSON lines, a JSON array, CSV or TSV."
    )
