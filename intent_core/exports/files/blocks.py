"""Read a file of lines in blocks, so that a file of any size needs little memory.

The file contains one JSON object per line (a manifest, or JSONL). A block is a number of whole
lines; `json_rows.py` parses its rows. `sources.py` opens files and reads all other kinds.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import orjson

from intent_core.exports.files.containers import GZIP, UTF16, ZIP, reading

BOM = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 64 << 20
"""A longer line is rejected instead of read into memory."""

# 128 KiB: fits into a core's cache, and is large enough that the overhead per block is negligible.
_BLOCK_BYTES = 1 << 17


class Block(NamedTuple):
    """A number of whole lines of a file."""

    content: bytes
    line: int
    """Number of the first line; the first line of the file is 1."""
    offset: int
    """Start of the block in the (decompressed) file, in bytes."""
    num_lines: int
    is_cut: bool = False
    """Whether the last line was too long and is incomplete."""


class Span(NamedTuple):
    """A byte range of whole lines in an uncompressed file."""

    offset: int
    num_bytes: int


def read_span(path: Path, span: Span) -> Iterator[Block]:
    """Read a span of lines block by block. Lines are numbered from 1 within the span.

    Args:
        path: an uncompressed file of lines.
        span: a byte range of whole lines, as `split_lines` gives it.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        file.seek(span.offset)
        yield from cut_lines(file, span)


def split_lines(path: Path, num_bytes: int) -> Iterator[Span]:
    """Divide an uncompressed file of JSON lines into spans of about `num_bytes` bytes.

    Yields nothing for a file of another kind.
    """
    with reading(path), path.open("rb") as file:
        start = file.read(_BLOCK_BYTES)
        if start.startswith((GZIP, ZIP, *UTF16)) or not _is_lines(start):
            return
        size = file.seek(0, os.SEEK_END)
        offset = 0
        while offset < size:
            file.seek(min(offset + num_bytes, size))
            _skip_line(file)
            end = file.tell()
            yield Span(offset, end - offset)
            offset = end


def _is_lines(start: bytes) -> bool:
    first, newline, _ = start.removeprefix(BOM).lstrip().partition(b"\n")
    return bool(newline) and is_json(first) and not is_array(start)


def count_bytes(path: Path) -> int | None:
    """Return the number of bytes that will be read; None for a compressed file.

    Args:
        path: the export.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return None if file.read(4).startswith((GZIP, ZIP)) else path.stat().st_size


class _UniversalLines(io.RawIOBase):
    """A stream whose lines end with CR alone, with LF instead."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(content)] = content
        return len(content)


def cut_lines(stream: IO[bytes], span: Span | None = None) -> Iterator[Block]:
    """Cut a stream, or the span at whose start it is, into blocks of whole lines.

    Args:
        stream: lines that end with LF, CR and LF, or CR alone.
        span: the part to read; None reads to the end.
    """
    offset, line = span.offset if span else 0, 1
    end = span.offset + span.num_bytes if span else sys.maxsize
    while offset < end and (content := stream.read(min(_BLOCK_BYTES, end - offset))):
        if offset == 0 and b"\r" in content and b"\n" not in content:
            content = content.replace(b"\r", b"\n")
            stream = cast(IO[bytes], io.BufferedReader(_UniversalLines(stream), _BLOCK_BYTES))
        if not content.endswith(b"\n"):
            content += stream.readline(MAX_LINE_BYTES)
        skipped = 0
        if len(content) > MAX_LINE_BYTES and not content.endswith(b"\n"):
            skipped = _skip_line(stream)
        num_lines = content.count(b"\n") + (skipped > 0)
        yield Block(content, line, offset, num_lines, is_cut=skipped > 0)
        line += num_lines
        offset += len(content) + skipped


def _skip_line(file: IO[bytes]) -> int:
    """Skip the rest of a line and return its number of bytes."""
    skipped = 0
    while piece := file.readline(_BLOCK_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def is_array(start: bytes) -> bool:
    """Return whether a file is one array, as opposed to lines that contain arrays.

    Args:
        start: the first bytes of the file.
    """
    body = start.removeprefix(BOM).strip()
    if not body.startswith(b"[") or body[1:].lstrip()[:1] not in (b"{", b"]", b'"', b""):
        return False
    first, _, rest = body.partition(b"\n")
    return not rest or not is_json(first)


def is_pretty(body: bytes) -> bool:
    """Return whether a file starts with an object that spans several lines.

    Args:
        body: the first bytes of the file, without blanks before them.
    """
    first, newline, _ = body.partition(b"\n")
    if not body.startswith(b"{") or not newline or _starts_with_value(first):
        return False
    if first.rstrip().endswith((b"{", b"[", b",")):
        return True
    text = body.decode("utf-8", "surrogateescape")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return "\n" in text[:end]


def _starts_with_value(line: bytes) -> bool:
    try:
        json.JSONDecoder().raw_decode(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return False
    return True


def is_json(text: bytes) -> bool:
    """Return whether a text is one JSON value.

    Args:
        text: any bytes.
    """
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True
