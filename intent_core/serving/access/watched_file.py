"""A file that is read again only when it has changed."""

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


class WatchedFile(Generic[ContentT]):
    """The last valid content of a file that other processes replace.

    `parse` raises `DataError` for invalid content; its message is logged. An invalid or missing
    file is logged once per change, and the previous content is kept.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], ContentT], empty: ContentT) -> None:
        self._path = path
        self._parse = parse
        self._content = empty
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
        else:
            self._reported = _UNKNOWN
            return
        if signature != self._reported:
            logger.error("cannot load %s: %s; keeping the previous content", self._path, problem)
            self._reported = signature
