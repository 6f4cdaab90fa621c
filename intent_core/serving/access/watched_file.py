"""A file that is read again when it has changed, and only then."""

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
    """The last good content of a file, which others replace while we run.

    `parse` raises `DataError` for content that is wrong; its message goes to the log. A file that
    is wrong or gone is reported once per change, and what was read before stays.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], ContentT], empty: ContentT) -> None:
        self._path = path
        self._parse = parse
        self._content = empty
        # None stands for a file that is not there.
        self._seen: _Signature | None = _UNKNOWN
        self._reported: _Signature | None = _UNKNOWN

    def read(self) -> ContentT:
        try:
            status = os.stat(self._path)
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            signature = None
        if signature != self._seen:
            # Looked at before it is read: what changes in between is seen the next time.
            self._seen = signature
            self._read_anew()
        return self._content

    def _read_anew(self) -> None:
        signature = self._seen
        try:
            self._content = self._parse(self._path.read_bytes())
        except DataError as error:
            problem = str(error)
        except OSError as error:
            # May pass by itself (no descriptors left, say): try again at the next request.
            self._seen = _UNKNOWN if signature else None
            problem = error.strerror or type(error).__name__
        else:
            self._reported = _UNKNOWN
            return
        if signature != self._reported:
            logger.error("%s: %s; what was read before stays", self._path, problem)
            self._reported = signature
