"""What kind of file this is: compressed, an archive, JSON, a table or text; and the stream inside.

The kind is detected from the content, not from the name. A file of another kind ends in a
`DataError` that names what it looks like and what to do.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from intent_core.errors import DataError

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MAGIC_BYTES = 8
BUFFER_BYTES = 1 << 17
"""Of each stream; so much of it can be peeked at."""
# More is no text: deflate makes at most 1,032 bytes out of one.
MAX_EXPANSION = 200
_FREE_BYTES = 64 << 20
# A gzip file ends with its size.
_SIZE_BYTES = 4
_OFFICE = {"[Content_Types].xml", "xl/workbook.xml", "word/document.xml"}
_MAX_MEMBERS = 1000
_FOREIGN = (
    (b"PAR1", "an Apache Parquet file", "convert it to JSON lines or CSV"),
    (b"%PDF", "a PDF document", "export the labelled data as JSON lines or CSV"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"BZh", "a bzip2 file", "decompress it, or compress it with gzip"),
    (b"\xfd7zXZ", "an xz file", "decompress it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "decompress it, or compress it with gzip"),
    (b"\xd0\xcf\x11\xe0", "an old Microsoft Office file", "save the sheet as CSV in UTF-8"),
    (b"\x89PNG", "an image", "export the labelled data as JSON lines or CSV"),
    (b"\xff\xd8\xff", "an image", "export the labelled data as JSON lines or CSV"),
    (b"SQLite f", "an SQLite database", "export the table as CSV or JSON lines"),
)


class Member(NamedTuple):
    """A stream of one file, or of one file in an archive."""

    name: str
    """For messages and records: `export.zip/admin.jsonl` for a file in an archive."""
    stream: IO[bytes]
    """UTF-8, or ASCII-compatible."""


class _BoundedStream(io.RawIOBase):
    """A decompressed stream that ends in a `DataError` when it grows out of proportion."""

    def __init__(self, name: str, stream: IO[bytes], num_compressed: int, stated: int = 0) -> None:
        self._name, self._stream = name, stream
        self._left = _FREE_BYTES + MAX_EXPANSION * num_compressed
        # The stated size can be wrong: the bytes are counted as well.
        self._refuse_if(stated > self._left)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(len(buffer))
        self._left -= len(content)
        self._refuse_if(self._left < 0)
        buffer[: len(content)] = content
        return len(content)

    def _refuse_if(self, is_too_long: bool) -> None:
        if is_too_long:
            raise DataError(
                f"{self._name} expands to more than {MAX_EXPANSION} times its size: it is damaged, "
                "or not labelled data. Decompress it and look at the content."
            )


class _Recoded(io.RawIOBase):
    """A UTF-16 stream, read as UTF-8."""

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self._name = name
        self._text = io.TextIOWrapper(stream, "utf-16", newline="")
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._pending:
            try:
                self._pending = self._text.read(len(buffer)).encode("utf-8", "replace")
            except UnicodeError as error:
                raise DataError(
                    f"{self._name} is damaged UTF-16 ({error}). Save it as UTF-8."
                ) from error
        content, self._pending = self._pending[: len(buffer)], self._pending[len(buffer) :]
        buffer[: len(content)] = content
        return len(content)


def open_members(path: Path) -> Iterator[Member]:
    """Open what a file contains, one stream after the other.

    Args:
        path: a plain file, a gzip file, or a zip archive of either.

    Raises:
        DataError: the file is of a kind that is not read. `reading` translates other errors.
    """
    with path.open("rb", BUFFER_BYTES) as file:
        start = file.read(_MAGIC_BYTES)
        file.seek(0)
        if start.startswith(ZIP):
            yield from _open_archive(path.name, file)
        elif start.startswith(GZIP):
            yield _unzip(path.name, file, path.stat().st_size)
        else:
            yield _decode(path.name, file, start)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the errors of files and decompression into `DataError`.

    Args:
        path: the file that is read, for the message.

    Raises:
        DataError: the file cannot be read or is damaged.
    """
    try:
        yield
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is a damaged zip archive ({error}): download it again") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): download it again") from error
    except NotImplementedError as error:
        raise DataError(f"{path} is compressed in an unknown way ({error}): unpack it") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path") from error


def peek(stream: IO[bytes]) -> bytes:
    """Return the next bytes of a stream without taking them, up to `BUFFER_BYTES`.

    Args:
        stream: a stream of `open_members`.
    """
    return cast(bytes, cast(Any, stream).peek(BUFFER_BYTES))


def _buffer(raw: io.RawIOBase) -> IO[bytes]:
    return cast(IO[bytes], io.BufferedReader(raw, BUFFER_BYTES))


def _unzip(name: str, file: IO[bytes], num_bytes: int) -> Member:
    unzipped = cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if file.seekable() and num_bytes > _SIZE_BYTES:
        _try_size(name, file, num_bytes)
    stream = _buffer(_BoundedStream(name, unzipped, num_bytes))
    return _decode(name, stream, peek(stream)[:_MAGIC_BYTES])


def _try_size(name: str, file: IO[bytes], num_bytes: int) -> None:
    """Refuse a file that grows out of proportion before its rows are parsed, which takes longer."""
    file.seek(-_SIZE_BYTES, io.SEEK_END)
    stated = int.from_bytes(file.read(_SIZE_BYTES), "little")
    file.seek(0)
    if stated > _FREE_BYTES + MAX_EXPANSION * num_bytes:
        # Or it is cut off: then these bytes are not its size, and reading it says so.
        bounded = _BoundedStream(name, cast(IO[bytes], gzip.GzipFile(fileobj=file)), num_bytes)
        while bounded.read(BUFFER_BYTES):
            pass
        file.seek(0)


def _open_archive(name: str, file: IO[bytes]) -> Iterator[Member]:
    archive = zipfile.ZipFile(file)
    members = [info for info in archive.infolist() if _is_data(info)]
    if _OFFICE & set(archive.namelist()):
        raise DataError(f"{name} is a Microsoft Office file. Save the sheet as CSV in UTF-8.")
    if not members:
        raise DataError(f"{name} is a zip archive without files. Export the labelled data again.")
    if len(members) > _MAX_MEMBERS:
        raise DataError(
            f"{name} is a zip archive of {len(members)} files; at most {_MAX_MEMBERS} are read. "
            "Unpack it and join the files that belong together."
        )
    for info in members:
        if info.flag_bits & 1:
            raise DataError(f"{name}: {info.filename} is encrypted. Unpack the archive first.")
        inner = f"{name}/{info.filename}"
        with archive.open(info) as stream:
            bounded = _buffer(_BoundedStream(inner, stream, info.compress_size, info.file_size))
            start = peek(bounded)[:_MAGIC_BYTES]
            if start.startswith(GZIP):
                yield _unzip(inner, bounded, info.file_size)
                continue
            yield _decode(inner, bounded, start)


def _is_data(info: zipfile.ZipInfo) -> bool:
    """Whether a member is not a folder, and not what macOS adds."""
    parts = PurePosixPath(info.filename).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not info.is_dir() and not hidden


def _decode(name: str, stream: IO[bytes], start: bytes) -> Member:
    """The stream as UTF-8; `DataError` for what is not text."""
    if start.startswith(UTF16):
        return Member(name, _buffer(_Recoded(name, stream)))
    if start.startswith(ZIP):
        raise DataError(f"{name} is an archive within an archive. Unpack the outer one first.")
    for magic, kind, remedy in _FOREIGN:
        if start.startswith(magic):
            raise DataError(f"{name} is {kind}: {remedy}.")
    return Member(name, stream)
