"""The keys file: one `NAME KEY` pair per line, read again when it changes.

# The mobile app; both keys are valid until the line of the old one is removed.
app-2026a  Zk3...
app-2026b  9fQ...
"""

import hashlib
import hmac
import logging
import re
from pathlib import Path

from intent_core.errors import ConfigError
from intent_core.serving.access.watched_file import WatchedFile

OPERATOR = "operator"
"""Name of the caller that uses vLLM's own key."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_KEY = re.compile(r"[!-~]{16,}")
_MOST_REPORTED = 10

logger = logging.getLogger(__name__)


def is_key(text: str) -> bool:
    """Return whether a text can be an API key: 16 or more printable ASCII characters, no space.

    Args:
        text: the key.
    """
    return _KEY.fullmatch(text) is not None


class KeyFile:
    """Looks up the caller of an API key.

    Only the keys of the present file are valid: a line that is not valid is logged and skipped, and
    a file that is missing or must not be read has no keys.
    """

    def __init__(self, path: Path, operator_key: str) -> None:
        if not is_key(operator_key):
            raise ConfigError(
                "the operator's key must be 16 or more printable ASCII characters without "
                "whitespace: set another INTENT_API_KEY"
            )
        self._path = path
        self._operator_key = operator_key
        self._operator = _digest(operator_key.encode())
        no_keys: tuple[tuple[str, bytes], ...] = ()
        self._file = WatchedFile(path, self._parse, no_keys, is_revoked_without=True)

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
        keys, problems = read_keys(content, self._operator_key)
        if problems:
            shown = "; ".join(problems[:_MOST_REPORTED])
            message = "%s: %d lines are not valid and have no effect: %s"
            logger.error(message, self._path, len(problems), shown)
        return tuple((name, _digest(key.encode())) for name, key in keys.items())


def read_keys(content: bytes, operator_key: str = "") -> tuple[dict[str, str], list[str]]:
    """Return the keys of a file by name, and what is wrong with each line that is not valid.

    The problems do not contain the lines' text, which may be a key.

    Args:
        content: the file.
        operator_key: the server's own key, which no caller can have.
    """
    keys: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            fields = line.decode().split()
        except UnicodeDecodeError:
            problems.append(f"line {number}: not UTF-8")
            continue
        if not fields or fields[0].startswith("#"):
            continue
        problem = _find_problem(fields, keys, operator_key)
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            keys[fields[0]] = fields[1]
    return keys, problems


def _find_problem(fields: list[str], keys: dict[str, str], operator_key: str) -> str | None:
    if len(fields) != 2 or not _NAME.fullmatch(fields[0]):
        return "expected NAME KEY, with a name of letters, digits, '.', '_' and '-'"
    name, key = fields
    if name == OPERATOR:
        return f"the name {OPERATOR!r} is reserved for the server's own key"
    if name in keys:
        return "duplicate name: use a different name for each key"
    if not is_key(key):
        return "a key must be 16 or more printable ASCII characters without whitespace"
    if key == operator_key or key in keys.values():
        return "duplicate key: it is already used by another name"
    return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
