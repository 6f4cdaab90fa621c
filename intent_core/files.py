"""Files that are written whole or not at all, and lines of JSON that are read one by one."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from intent_core.errors import DataError

ModelT = TypeVar("ModelT", bound=BaseModel)


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the place, then move there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_jsonl(rows: Iterable[BaseModel | Mapping[str, object]], path: Path) -> None:
    """Write rows one a line, whole or not at all."""
    write_whole(path, to_jsonl(rows))


def to_jsonl(rows: Iterable[BaseModel | Mapping[str, object]]) -> bytes:
    """Rows as JSON, one a line."""
    plain = (row.model_dump() if isinstance(row, BaseModel) else dict(row) for row in rows)
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in plain)


def read_jsonl(path: Path, kind: type[ModelT], what: str, remedy: str) -> list[ModelT]:
    """Read one model a line; `DataError` names the line that is not `what` and the `remedy`."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise DataError(f"{path}:{number}: not {what} ({problem}): {remedy}") from error
    return found
