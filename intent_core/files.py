"""Atomic file writes, file locks, and JSON lines.

The module imports only the standard library, so that it also works inside vLLM's environment. The
JSON lines functions import pydantic when they are called.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, TypeVar

from intent_core.errors import DataError

if TYPE_CHECKING:
    from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound="BaseModel")

PARTIAL = ".partial"
"""Suffix of a file that is being written; its name starts with a dot."""


@contextlib.contextmanager
def open_atomically(
    path: Path, mode: int | None = None, *, overwrite: bool = True
) -> Iterator[BinaryIO]:
    """Open a new file for writing that is renamed to `path` when the block ends without an error.

    Readers see either the previous file or the complete new one, even after a power failure. The
    path of the unfinished file is the `name` of the stream.

    Args:
        path: final path; missing parent folders are created.
        mode: permissions, e.g. 0o600, never more at first; None: 0o666 minus the umask.
        overwrite: replace an existing file; False: raise `FileExistsError` instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{uuid.uuid4().hex}{PARTIAL}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(
            partial, "wb", opener=lambda name, _: os.open(name, flags, mode or 0o666)
        ) as file:
            if mode is not None and mode & ~os.fstat(file.fileno()).st_mode:
                os.fchmod(file.fileno(), mode)  # the umask has taken some of it
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(partial, path)
        else:
            # Unlike a rename, a link fails if the target exists.
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomically(
    path: Path, content: bytes | str, mode: int | None = None, *, overwrite: bool = True
) -> bool:
    """Write a whole file atomically; return False if it exists and `overwrite` is False.

    Args:
        path: final path; missing parent folders are created.
        content: bytes, or text to encode as UTF-8.
        mode: permissions, e.g. 0o600, never more at first; None: 0o666 minus the umask.
        overwrite: replace an existing file; False: keep it.
    """
    try:
        with open_atomically(path, mode, overwrite=overwrite) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except FileExistsError:
        if overwrite or not path.is_file():
            raise
        return False
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is reported without it
        raise
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk; without this a rename may be lost in a power failure.

    Args:
        folder: the folder in which files were created or renamed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path, *, shared: bool = False, blocking: bool = True) -> Iterator[IO[str]]:
    """Hold a lock on a file during the block; the kernel releases it if the process is killed.

    Args:
        path: the lock file; created if missing.
        shared: take a shared lock instead of an exclusive one.
        blocking: wait for the lock; False: raise `BlockingIOError` if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if blocking else kind | fcntl.LOCK_NB)
        yield file


class _Struct(Protocol):
    """A msgspec struct; the package itself is not in vLLM's environment."""

    __struct_fields__: ClassVar[tuple[str, ...]]


def write_jsonl(rows: "Iterable[BaseModel | _Struct | dict[str, Any]]", path: Path) -> None:
    """Write rows as JSON lines, atomically.

    Args:
        rows: pydantic models, msgspec structs or dictionaries.
        path: final path; an existing file is replaced.
    """
    with open_atomically(path) as file:
        file.writelines(_encode(rows))


def to_jsonl(rows: "Iterable[BaseModel | _Struct | dict[str, Any]]") -> bytes:
    """Return rows as JSON lines (UTF-8); NaN and infinity become null.

    Args:
        rows: pydantic models, msgspec structs or dictionaries.
    """
    return b"".join(_encode(rows))


def _encode(rows: "Iterable[BaseModel | _Struct | dict[str, Any]]") -> Iterator[bytes]:
    from pydantic_core import to_json

    def list_fields(row: Any) -> dict[str, Any]:
        fields = {name: getattr(row, name) for name in row.__struct_fields__}
        if row.__struct_config__.omit_defaults:
            names = row.__struct_fields__[-len(row.__struct_defaults__) :]
            usual = dict(zip(names, row.__struct_defaults__, strict=True))
            fields = {n: v for n, v in fields.items() if n not in usual or v != usual[n]}
        return fields

    for row in rows:
        yield to_json(row, inf_nan_mode="null", fallback=list_fields) + b"\n"


def read_jsonl(path: Path, kind: type[ModelT], what: str, remedy: str) -> list[ModelT]:
    """Read a file of JSON lines, one model per line.

    Args:
        path: the file.
        kind: pydantic model of a line.
        what: name of a line's content for the error message, e.g. "an example".
        remedy: what to do about a broken file, for the error message.

    Raises:
        DataError: the file cannot be read, or a line is not a valid `kind`.
    """
    from pydantic import ValidationError

    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise DataError(f"{path}:{number} is not {what} ({problem}): {remedy}") from error
    return rows
