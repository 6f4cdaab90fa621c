"""The keys file: one `NAME KEY` pair per line, read again when it changes.

# The mobile app; both keys are valid until the line of the old one is removed.
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
"""Name of the caller that uses vLLM's own key."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_KEY = re.compile(r"[!-~]{16,}")
_OPERATOR_KEY = re.compile(r"[!-~]+")


class KeyFile:
    """Looks up the caller of an API key."""

    def __init__(self, path: Path, operator_key: str) -> None:
        if not _OPERATOR_KEY.fullmatch(operator_key):
            raise ConfigError("the operator's key must be printable ASCII without whitespace")
        self._operator = _digest(operator_key.encode())
        no_keys: tuple[tuple[str, bytes], ...] = ()
        self._file = WatchedFile(path, self._parse, no_keys)

    def find_caller(self, key: bytes) -> str | None:
        """Return the caller's name, or None for an unknown key, always in the same time.

        Comparing every key in constant time prevents timing attacks.
        """
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
        """Return what is wrong with a line, without its text, which may contain a key."""
        if len(fields) != 2 or not _NAME.fullmatch(fields[0]):
            return "expected NAME KEY, with a name of letters, digits, '.', '_' and '-'"
        name, key = fields
        if name == OPERATOR:
            return f"the name {OPERATOR!r} is reserved for the server's own key"
        if name in known:
            return "duplicate name: use a different name for each key"
        if not _KEY.fullmatch(key):
            return "a key must be 16 or more printable ASCII characters without whitespace"
        digest = _digest(key.encode())
        if digest == self._operator or digest in known.values():
            return "duplicate key: it is already used by another name"
        return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
