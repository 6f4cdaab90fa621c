"""The keys file: who may ask. One `name key` a line, several at once, read anew when changed.

# The mobile app; both keys work until the older one's line is removed.
app-2026a  Zk3...
app-2026b  9fQ...
"""

import hashlib
import hmac
import re
from pathlib import Path

from intent_core.errors import ConfigError, DataError
from intent_core.serving.access.watched_file import WatchedFile

OPERATOR = "operator"
"""The caller that brings vLLM's own key."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_KEY = re.compile(r"[!-~]{16,}")
_OPERATOR_KEY = re.compile(r"[!-~]+")


class KeyFile:
    """Finds the caller a key belongs to."""

    def __init__(self, path: Path, operator_key: str) -> None:
        if not _OPERATOR_KEY.fullmatch(operator_key):
            raise ConfigError("the operator's key must be visible ASCII characters without blanks")
        self._operator = _digest(operator_key.encode())
        nobody: tuple[tuple[str, bytes], ...] = ()
        self._file = WatchedFile(path, self._parse, nobody)

    def find_caller(self, key: bytes) -> str | None:
        """The caller's name; None for a key nobody has. As slow for the first as for none."""
        digest = _digest(key)
        caller = OPERATOR if hmac.compare_digest(digest, self._operator) else None
        for name, known in self._file.read():
            if hmac.compare_digest(digest, known):
                caller = name
        return caller

    def _parse(self, content: bytes) -> tuple[tuple[str, bytes], ...]:
        try:
            lines = content.decode().split("\n")
        except UnicodeDecodeError as error:
            number = content.count(b"\n", 0, error.start) + 1
            raise DataError(f"line {number}: not UTF-8") from None
        known: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields or fields[0].startswith("#"):
                continue
            problem = self._find_problem(fields, known)
            if problem:
                raise DataError(f"line {number}: {problem}")
            known[fields[0]] = _digest(fields[1].encode())
        return tuple(known.items())

    def _find_problem(self, fields: list[str], known: dict[str, bytes]) -> str | None:
        """What is wrong with a line; never its text, which may be a key in the wrong place."""
        if len(fields) != 2 or not _NAME.fullmatch(fields[0]):
            return "expected a name (letters, digits, '.', '_', '-'), a blank and a key"
        name, key = fields
        if name == OPERATOR:
            return f"the name {OPERATOR!r} belongs to the server's own key"
        if name in known:
            return "this name has a key already: give each key a name of its own"
        if not _KEY.fullmatch(key):
            return "a key has 16 or more visible ASCII characters"
        digest = _digest(key.encode())
        if digest == self._operator or digest in known.values():
            return "this key belongs to another name"
        return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
