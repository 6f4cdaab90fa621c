"""Copies of files with their digest, syncing while bytes still come, and errors of files."""

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from intent_core.errors import StorageError
from intent_core.files import open_atomically

CHUNK = 1 << 20
_SYNC_EVERY_S = 0.1


@contextlib.contextmanager
def file_errors(
    action: str, uri: str, directory: Path | None = None, needed: Path | int = 0
) -> Iterator[None]:
    """The one place where an `OSError` becomes a `StorageError`."""
    try:
        yield
    except OSError as error:
        message = f"cannot {action} {uri}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and directory is not None:
            size = needed.stat().st_size if isinstance(needed, Path) else needed
            message += f"; {directory} is full and {size} bytes are needed: free space there"
        raise StorageError(message) from error


def transfer(source: Path, target: Path) -> tuple[int, str]:
    """Copy beside the target, verify the size, and move into place."""
    with source.open("rb") as stream, open_atomically(target) as sink:
        size, etag = copy(stream, sink)
        sink.flush()
        written, expected = (os.fstat(file.fileno()).st_size for file in (sink, stream))
        if not written == size == expected:
            raise StorageError(f"{source} changed: {written} of {expected} bytes at {target}")
    return size, etag


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
    """The disk takes what is written as it comes, so that the last `sync` has little left.

    A failed sync is told once only, so it is raised here.
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
