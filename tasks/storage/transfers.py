"""Copy files with a digest, sync a file while it is written, and convert file errors."""

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


def transfer(source: Path, target: Path) -> tuple[int, str]:
    """Copy to a partial file, verify the size, and rename it to the target.

    Returns the size in bytes and the SHA-256.
    """
    with source.open("rb") as stream, open_atomically(target) as sink:
        size, etag = copy(stream, sink)
        sink.flush()
        written, expected = (os.fstat(file.fileno()).st_size for file in (sink, stream))
        if not written == size == expected:
            raise StorageError(
                f"{source} changed during the copy: {target} has {written} of {expected} bytes"
            )
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
