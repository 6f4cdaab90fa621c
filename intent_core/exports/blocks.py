"""Read a file of rows in blocks, so that a file of any size needs little memory.

The file contains one JSON object per line (a manifest, or JSONL) or one JSON array, and can be
gzipped. A block is a number of whole lines, or the whole array; `json_rows.py` parses its rows.
"""

import contextlib
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import orjson

from intent_core.errors import DataError

BOM = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 64 << 20
"""A longer line is rejected instead of read into memory."""

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# 128 KiB: fits into a core's cache, and is large enough that the overhead per block is negligible.
_BLOCK_BYTES = 1 << 17


class Block(NamedTuple):
    """A number of whole lines of a file, or its whole array."""

    content: bytes
    line: int
    """Number of the first line; the first line of the file is 1."""
    offset: int
    """Start of the block in the (decompressed) file, in bytes."""
    is_array: bool = False
    is_cut: bool = False
    """Whether the last line was too long and is incomplete."""


class Span(NamedTuple):
    """A byte range of whole lines in an uncompressed file."""

    offset: int
    num_bytes: int


def read_blocks(path: Path, span: Span | None = None) -> Iterator[Block]:
    """Read a file, or a span of it, block by block; `DataError` if it cannot be read.

    The lines of a span are numbered from 1, because the lines before it have not been counted.
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
    """Divide an uncompressed file of lines into spans of about `num_bytes` bytes.

    Yields nothing for a gzip file, a UTF-16 file or a JSON array.
    """
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
    """Return the number of bytes that `read_blocks` will read; None for a gzip file.

    Args:
        path: the export.

    Raises:
        DataError: the file cannot be read.
    """
    with _reading(path), path.open("rb") as file:
        return None if file.read(2) == _GZIP else path.stat().st_size


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    file = path.open("rb")
    start = file.read(2)
    file.seek(0)
    if start in _UTF16:
        file.close()
        raise DataError(f"{path} is encoded as UTF-16: save it as UTF-8")
    if start == _GZIP:
        file.close()
        return gzip.open(path)
    return file


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): download it again") from error
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
    """Skip the rest of a line and return its number of bytes."""
    skipped = 0
    while piece := file.readline(_BLOCK_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _is_array(start: bytes) -> bool:
    """Return whether the file is one array, as opposed to lines that contain arrays."""
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
