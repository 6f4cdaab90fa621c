"""The atomic writer, the file lock, and JSON lines.

Only the standard library is imported here, so that it also runs inside vLLM's environment;
JSON lines load pydantic when they are used.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar

from intent_core.errors import DataError

if TYPE_CHECKING:
    from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound="BaseModel")

PARTIAL = ".partial"
"""End of the name of a file that is being written; the name begins with a dot."""


@contextlib.contextmanager
def open_atomically(
    path: Path, mode: int | None = None, *, overwrite: bool = True
) -> Iterator[BinaryIO]:
    """A new file that gets the name `path` when the block ends without an error.

    Readers see the previous file or the whole new one, also after a power failure. `mode` is the
    file's permission from its first byte on; None: as the umask has it. The path of the unfinished
    file is the stream's `name`. Raises `FileExistsError` where `path` exists and must stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{uuid.uuid4().hex}{PARTIAL}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(
            partial, "wb", opener=lambda name, _: os.open(name, flags, mode or 0o666)
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(partial, path)
        else:
            # A link, unlike a rename, refuses to replace what is there.
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomically(
    path: Path, content: bytes | str, mode: int | None = None, *, overwrite: bool = True
) -> bool:
    """Write the whole file, as `open_atomically`; False where it exists and must stay."""
    try:
        with open_atomically(path, mode, overwrite=overwrite) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except FileExistsError:
        if overwrite or not path.is_file():
            raise
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Sync the folder's names: a new name survives a power failure only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path, *, shared: bool = False, blocking: bool = True) -> Iterator[IO[str]]:
    """Hold a lock file, which is created if missing; the kernel frees that of a killed process.

    Raises `BlockingIOError` where another holds it and `blocking` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if blocking else kind | fcntl.LOCK_NB)
        yield file


def write_jsonl(rows: "Iterable[BaseModel | dict[str, Any]]", path: Path) -> None:
    """Write rows one a line, whole or not at all."""
    write_atomically(path, to_jsonl(rows))


def to_jsonl(rows: "Iterable[BaseModel | dict[str, Any]]") -> bytes:
    """Rows as JSON, one a line."""
    from pydantic_core import to_json

    return b"".join(to_json(row, inf_nan_mode="null") + b"\n" for row in rows)


def read_jsonl(path: Path, kind: type[ModelT], what: str, remedy: str) -> list[ModelT]:
    """Read one model a line; `DataError` names the line that is not `what` and the `remedy`."""
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
            raise DataError(f"{path}:{number}: not {what} ({problem}): {remedy}") from error
    return rows
