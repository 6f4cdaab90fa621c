"""Copy files with a digest, sync a file while it is written, and convert file errors."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from intent_core.errors import StorageError
from intent_core.files import open_atomically, sync_folder

CHUNK = 1 << 20
FETCHING, REMOVED = ".fetching", ".forgotten"
"""Beginnings of the names of folders that are being downloaded or deleted."""
_SYNC_EVERY_S = 0.1


@contextlib.contextmanager
def file_errors(
    action: str, uri: str, directory: Path | None = None, needed: Path | int = 0
) -> Iterator[None]:
    """Convert every `OSError` to a `StorageError`.

    `directory` and `needed` (a size in bytes, or a file of that size) describe a full disk.
    """
    try:
        yield
    except OSError as error:
        message = f"cannot {action} {uri}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and directory is not None:
            size = needed.stat().st_size if isinstance(needed, Path) else needed
            message += f"; {directory} is full and {size} bytes are needed. Free some space there"
        raise StorageError(message) from error


def transfer(source: Path, target: Path, mode: int | None = None) -> tuple[int, str]:
    """Copy to a partial file, verify the size, and rename it to the target.

    `mode` is that of the target, see `open_atomically`. Returns the size in bytes and the SHA-256.
    """
    with source.open("rb") as stream, open_atomically(target, mode) as sink:
        size, etag = copy(stream, sink)
        sink.flush()
        written, expected = (os.fstat(file.fileno()).st_size for file in (sink, stream))
        if not written == size == expected:
            raise StorageError(
                f"{source} changed during the copy: {target} has {written} of {expected} bytes"
            )
    return size, etag


@contextlib.contextmanager
def place_folder(target: Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `target` when the block ends without an error.

    A folder at `target` that contains the file `last` is complete, and kept; another is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{FETCHING}-", dir=target.parent))
    try:
        yield partial
        if not (target / last).exists():
            if target.exists():
                remove_folder(target)
            # Another process may place the same folder at this moment.
            with contextlib.suppress(FileExistsError):
                _rename(partial, target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Rename the folder, then delete it, so that a partly deleted folder never looks complete."""
    removed = path.with_name(f"{REMOVED}-{path.name}-{uuid.uuid4().hex}")
    path.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _rename(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # the other code of FileExistsError for folders
            raise FileExistsError(error.errno, error.strerror, str(target)) from error
        raise


def copy(source: BinaryIO, sink: BinaryIO | None) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while chunk := source.read(CHUNK):
        size += len(chunk)
        digest.update(chunk)
        if sink is not None:
            sink.write(chunk)
    return size, digest.hexdigest()


@contextlib.contextmanager
def synced_meanwhile(stream: BinaryIO) -> Iterator[None]:
    """Sync the stream to disk while it is written, so that the final `sync` is short.

    The kernel reports a failed sync only once, so the error is raised here.
    """
    written = threading.Event()

    def keep_syncing() -> None:
        while not written.wait(_SYNC_EVERY_S):
            os.fdatasync(stream.fileno())

    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(keep_syncing)
        try:
            yield
        finally:
            written.set()
        syncing.result()
