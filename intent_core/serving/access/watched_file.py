"""A file that is read again only when it has changed."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from intent_core.errors import DataError

logger = logging.getLogger(__name__)

ContentT = TypeVar("ContentT")
_Signature = tuple[int, int, int]
_UNKNOWN: _Signature = (-1, -1, -1)


_TEMPORARY = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EIO, errno.ESTALE}
)
"""Errors of the system, not of the file: the next attempt can succeed."""


class WatchedFile(Generic[ContentT]):
    """The last valid content of a file that other processes replace.

    `parse` raises `DataError` for invalid content; its message is logged. An invalid or missing
    file is logged once per change, and the previous content is kept. With `is_revoked_without`,
    a file that is missing or must not be read has the content `empty` instead.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], ContentT],
        empty: ContentT,
        *,
        is_revoked_without: bool = False,
    ) -> None:
        self._path = path
        self._parse = parse
        self._content = self._empty = empty
        self._is_revoked_without = is_revoked_without
        # None means that the file does not exist.
        self._seen: _Signature | None = _UNKNOWN
        self._reported: _Signature | None = _UNKNOWN

    def read(self) -> ContentT:
        try:
            status = os.stat(self._path)
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            signature = None
        if signature != self._seen:
            # The status is taken before reading, so a change in between is noticed the next time.
            self._seen = signature
            self._reload()
        return self._content

    def _reload(self) -> None:
        signature = self._seen
        try:
            self._content = self._parse(self._path.read_bytes())
        except DataError as error:
            problem = str(error)
        except OSError as error:
            # Possibly temporary (e.g. out of file descriptors): retry at the next request.
            self._seen = _UNKNOWN if signature else None
            problem = error.strerror or type(error).__name__
            if self._is_revoked_without and error.errno not in _TEMPORARY:
                self._content = self._empty
        else:
            self._reported = _UNKNOWN
            return
        if signature != self._reported:
            kept = "no" if self._content is self._empty else "the previous"
            logger.error("cannot load %s: %s; using %s content", self._path, problem, kept)
            self._reported = signature
