"""A file of rows to parsed rows, in blocks, so that a file of any size takes little memory.

The file holds one JSON object a line (a manifest, or JSONL), or one JSON array; it may be
gzipped. A block is some whole lines, or the whole array. `parse_rows` makes one `Row` of every
object in a block; what cannot be parsed is a row with a fault. Blank lines are no rows.
"""

import contextlib
import gzip
import json
import math
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import orjson

from intent_core.answers import Refusal
from intent_core.config import Leniency
from intent_core.errors import DataError

BOM = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 64 << 20
"""A longer line costs a rejection, not the memory it would take."""
MAX_RAW = 2000

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# Small enough to stay in a core's cache, large enough to make a block's own cost nothing.
_BLOCK_BYTES = 1 << 17
_BLANKS = " \t\r\n\ufeff"
# Python refuses to read longer integers; nobody reads these.
_MAX_DIGITS = 4000
_DECODER = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < _MAX_DIGITS else math.inf
)


class Block(NamedTuple):
    """Some whole lines of a file, or its one array."""

    content: bytes
    line: int
    """Number of the first line, from 1."""
    offset: int
    """Where the block starts in the (decompressed) file, in bytes."""
    is_array: bool = False
    is_cut: bool = False
    """Whether the last line was too long and is not whole."""


class Row(NamedTuple):
    """One object of the file, parsed or refused."""

    line: int
    offset: int
    raw: str
    value: object = None
    fault: Refusal | None = None
    slips: tuple[tuple[Leniency, str], ...] = ()
    """Departures from the format: (kind, message)."""


class Span(NamedTuple):
    """A run of whole lines in a plain file."""

    offset: int
    num_bytes: int


def read_blocks(path: Path, span: Span | None = None) -> Iterator[Block]:
    """Read a file, or a span of it, block by block; `DataError` when it cannot be read.

    The lines of a span are numbered from 1, as nobody has counted those before it.
    """
    with _reading(path):
        if span:
            with path.open("rb") as file:
                file.seek(span.offset)
                yield from _cut(file, span)
        else:
            with _open(path) as file:
                yield from _cut(file, None)


def split_lines(path: Path, num_bytes: int) -> Iterator[Span]:
    """Cut a plain file of lines into spans of about this size; nothing if it is another kind."""
    with _reading(path), path.open("rb") as file:
        start = file.read(_BLOCK_BYTES)
        if start.startswith((_GZIP, *_UTF16)) or _is_array(start):
            return
        size = file.seek(0, os.SEEK_END)
        offset = 0
        while offset < size:
            file.seek(min(offset + num_bytes, size))
            _skip_line(file)
            end = file.tell()
            yield Span(offset, end - offset)
            offset = end


def count_bytes(path: Path) -> int | None:
    """How many bytes `read_blocks` will read, where that is known beforehand."""
    with _reading(path), path.open("rb") as file:
        return None if file.read(2) == _GZIP else path.stat().st_size


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
    """The values of an array; the first broken one ends it."""
    text = block.content.decode("utf-8", "surrogateescape")
    start = _skip_blanks(text, text.index("[") + 1)
    line, offset, counted = block.line, block.offset, 0
    slips: tuple[tuple[Leniency, str], ...] = ()
    held: Row | None = None
    while not text.startswith("]", start):
        line += text.count("\n", counted, start)
        offset += _count_utf8(text[counted:start])
        counted = start
        if held:
            yield held
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            fault = _json_fault(error, is_last=not text.rstrip().endswith("]"))
            yield Row(line, offset, text[start : start + MAX_RAW], fault=fault)
            return
        start = _skip_blanks(text, end)
        held = Row(line, offset, text[counted:end][:MAX_RAW], value)
        if text.startswith(",", start):
            start = _skip_blanks(text, start + 1)
            slips = (("trailing-comma", "a comma follows the array's last row"),)
        else:
            slips = ()
    if held:
        yield held._replace(slips=slips)
    if _skip_blanks(text, start + 1) < len(text):
        fault = Refusal(reason="not-json", message="text after the array's closing ']'")
        yield Row(line, offset, text[start + 1 : start + MAX_RAW], fault=fault)


def refuse_cut(line: bytes, number: int, offset: int) -> Row:
    """The row of a line that was too long to be read."""
    message = f"the line is longer than {MAX_LINE_BYTES >> 20} MiB"
    raw = line[:MAX_RAW].decode("utf-8", "replace")
    return Row(number, offset, raw, fault=Refusal(reason="too-long", message=message))


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    file = path.open("rb")
    start = file.read(2)
    file.seek(0)
    if start in _UTF16:
        file.close()
        raise DataError(f"{path} is UTF-16: save it as UTF-8")
    if start == _GZIP:
        file.close()
        return gzip.open(path)
    return file


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _cut(file: IO[bytes] | gzip.GzipFile, span: Span | None) -> Iterator[Block]:
    offset, line = span.offset if span else 0, 1
    end = span.offset + span.num_bytes if span else sys.maxsize
    while offset < end and (content := file.read(min(_BLOCK_BYTES, end - offset))):
        if offset == 0 and _is_array(content):
            yield Block(content + file.read(), 1, 0, is_array=True)
            return
        if not content.endswith(b"\n"):
            content += file.readline(MAX_LINE_BYTES)
        skipped = 0
        if len(content) > MAX_LINE_BYTES and not content.endswith(b"\n"):
            skipped = _skip_line(file)
        yield Block(content, line, offset, is_cut=skipped > 0)
        line += content.count(b"\n") + (skipped > 0)
        offset += len(content) + skipped


def _skip_line(file: IO[bytes] | gzip.GzipFile) -> int:
    """Pass over the rest of a line; give its bytes."""
    skipped = 0
    while piece := file.readline(_BLOCK_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _is_array(start: bytes) -> bool:
    """Whether the file is one array, and not lines the first of which is an array."""
    body = start.removeprefix(BOM).strip()
    if not body.startswith(b"[") or body[1:].lstrip()[:1] not in (b"{", b"]", b""):
        return False
    first, _, rest = body.partition(b"\n")
    return not rest or not _is_json(first)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True


def _parse_values(text: str, line: int, offset: int, is_last: bool) -> Iterator[Row]:
    """What orjson does not take: several objects on one line, lone surrogates, broken rows."""
    start = 0
    slips: tuple[tuple[Leniency, str], ...] = ()
    while start < len(text):
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


def _skip_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start] in _BLANKS:
        start += 1
    return start


def _count_utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _json_fault(error: Exception, is_last: bool) -> Refusal:
    if isinstance(error, RecursionError):
        return Refusal(reason="not-json", message="nested too deeply")
    if is_last:
        return Refusal(reason="truncated", message=f"the file ends inside a row: {error}")
    return Refusal(reason="not-json", message=str(error))
