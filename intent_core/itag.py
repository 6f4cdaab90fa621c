"""An iTAG export, in either format, to records and rejections.

The file is read row by row: one JSON object a line (a manifest, or JSONL of the documents'
training rows), or one JSON array of training rows; plain or gzipped. A row that cannot be used
becomes a `Rejection` that says where and why. Nothing is dropped in silence:
`len(records) + len(rejections) == num_objects`. Blank lines are no objects.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import orjson
from pydantic import BaseModel, ConfigDict, model_validator

from intent_core.answers import Answer, AnswerStage, Note, Refusal, ReportKind, read_answer
from intent_core.calls import Call, format_calls
from intent_core.config import DataConfig
from intent_core.errors import DataError
from intent_core.results import Reason

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_BLANKS = re.compile(r"[ \t\r\n\ufeff]*")
_MAX_RAW = 2000


class Record(BaseModel):
    """One utterance with the calls it means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterance: str
    output: str
    """The calls in canonical form."""
    calls: tuple[Call, ...]
    source: str
    """Name of the file."""
    line: int
    object_index: int
    stage: AnswerStage
    version: int | None = None
    """When it was answered, in epoch milliseconds, where the export says so."""


class Rejection(BaseModel):
    """A row that cannot be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    byte_offset: int
    """Where the row starts in the (decompressed) file."""
    object_index: int
    reason: Reason
    message: str
    raw: str
    """The row as it stands, its first 2000 characters."""


class RowReport(BaseModel):
    """A usable row that a person should look at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    object_index: int
    kind: ReportKind
    message: str


class ExportReading(BaseModel):
    """Everything one export says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    records: tuple[Record, ...]
    rejections: tuple[Rejection, ...]
    reports: tuple[RowReport, ...]
    num_objects: int

    @model_validator(mode="after")
    def _no_row_is_lost(self) -> Self:
        if len(self.records) + len(self.rejections) != self.num_objects:
            raise ValueError("records and rejections do not add up to the objects read")
        return self


class _Row(NamedTuple):
    """One object of the file, parsed or refused."""

    line: int
    offset: int
    raw: str
    value: object = None
    fault: Refusal | None = None
    shares_line: bool = False


def read_export(path: Path, config: DataConfig) -> ExportReading:
    """Read every row; `DataError` when the file cannot be read or holds no objects."""
    content = _read_content(path)
    records: list[Record] = []
    rejections: list[Rejection] = []
    reports: list[RowReport] = []
    rows = _read_array(content) if _is_array(content) else _read_lines(content)
    for index, row in enumerate(rows):
        answer = row.fault or read_answer(row.value, config)
        if isinstance(answer, Refusal):
            rejections.append(_rejection(row, index, answer))
        else:
            records.append(_record(row, index, answer, path.name))
            reports += _reports(row, index, answer)
    if not records and not rejections:
        raise DataError(f"{path} holds no rows: export the labelled data again")
    return ExportReading(
        records=tuple(records),
        rejections=tuple(rejections),
        reports=tuple(reports),
        num_objects=len(records) + len(rejections),
    )


def check_rejections(reading: ExportReading, path: Path, max_rate: float) -> None:
    """`DataError` when too many rows are unusable, with the reasons and an example of each."""
    rejections = reading.rejections
    rate = len(rejections) / reading.num_objects if reading.num_objects else 0.0
    if rate <= max_rate:
        return
    first = {rejection.reason: rejection for rejection in reversed(rejections)}
    listed = [
        f"  {count} x {reason}, as in {path}:{first[reason].line}: {first[reason].message}"
        for reason, count in Counter(r.reason for r in rejections).most_common(10)
    ]
    raise DataError(
        f"{len(rejections)} of {reading.num_objects} rows of {path} are unusable "
        f"({rate:.1%}; data.max_rejection_rate allows {max_rate:.1%}):\n" + "\n".join(listed) + "\n"
        "Correct these rows in the labelling task and export again, or raise "
        "data.max_rejection_rate."
    )


def _read_content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _is_array(content: bytes) -> bool:
    """Whether the file is one array, and not lines the first of which is an array."""
    body = content.removeprefix(_BOM).strip()
    if not body.startswith(b"[") or body[1:].lstrip()[:1] not in (b"{", b"]", b""):
        return False
    first, _, rest = body.partition(b"\n")
    return not rest or not _is_json(first)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True


def _read_lines(content: bytes) -> Iterator[_Row]:
    offset = 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        body = line.strip().removeprefix(_BOM).strip()
        if body:
            start = offset + line.find(body)
            yield from _read_line(body, number, start, is_last=number == len(lines))
        offset += len(line) + 1


def _read_line(body: bytes, number: int, offset: int, is_last: bool) -> Iterator[_Row]:
    raw = body[: _MAX_RAW * 4].decode("utf-8", "replace")
    try:
        yield _Row(number, offset, raw, orjson.loads(body))
        return
    except ValueError:
        pass
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of the row is not UTF-8: save the file as UTF-8"
        yield _Row(number, offset, raw, fault=Refusal(reason="bad-encoding", message=message))
        return
    yield from _read_values(text, number, offset, is_last)


def _read_values(text: str, line: int, offset: int, is_last: bool) -> Iterator[_Row]:
    """What orjson does not take: several objects on one line, lone surrogates, broken rows."""
    start = 0
    while start < len(text):
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            fault = _json_fault(error, cut_off=is_last)
            yield _Row(line, offset, text[start:], fault=fault)
            return
        yield _Row(line, offset, text[start:end], value, shares_line=start > 0)
        following = _skip_blanks(text, end)
        offset += len(text[start:following].encode())
        start = following


def _read_array(content: bytes) -> Iterator[_Row]:
    # A broken byte becomes a surrogate, which costs its own row only.
    text = content.decode("utf-8", "surrogateescape")
    start = _skip_blanks(text, text.index("[") + 1)
    line, offset, counted = 1, 0, 0
    while not text.startswith("]", start):
        line += text.count("\n", counted, start)
        offset += len(text[counted:start].encode("utf-8", "surrogateescape"))
        counted = start
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            fault = _json_fault(error, cut_off=not text.rstrip().endswith("]"))
            yield _Row(line, offset, text[start:], fault=fault)
            return
        yield _Row(line, offset, text[start:end], value)
        start = _skip_blanks(text, end)
        if text.startswith(",", start):
            start = _skip_blanks(text, start + 1)
    if _skip_blanks(text, start + 1) < len(text):
        fault = Refusal(reason="not-json", message="text after the array's closing ']'")
        yield _Row(line, offset, text[start + 1 :], fault=fault)


def _skip_blanks(text: str, start: int) -> int:
    blanks = _BLANKS.match(text, start)
    return blanks.end() if blanks else start


def _json_fault(error: Exception, cut_off: bool) -> Refusal:
    if isinstance(error, RecursionError):
        return Refusal(reason="not-json", message="nested too deeply")
    if cut_off:
        return Refusal(reason="truncated", message=f"the file ends inside a row: {error}")
    return Refusal(reason="not-json", message=str(error))


def _record(row: _Row, index: int, answer: Answer, source: str) -> Record:
    return Record(
        utterance=answer.utterance,
        output=format_calls(answer.calls),
        calls=answer.calls,
        source=source,
        line=row.line,
        object_index=index,
        stage=answer.stage,
        version=answer.version,
    )


def _rejection(row: _Row, index: int, refusal: Refusal) -> Rejection:
    return Rejection(
        line=row.line,
        byte_offset=row.offset,
        object_index=index,
        reason=refusal.reason,
        message=refusal.message,
        raw=row.raw[:_MAX_RAW].encode("utf-8", "replace").decode("utf-8"),
    )


def _reports(row: _Row, index: int, answer: Answer) -> list[RowReport]:
    notes = list(answer.notes)
    if row.shares_line:
        notes.append(Note(kind="several-objects", message="not the first object on its line"))
    return [
        RowReport(line=row.line, object_index=index, kind=note.kind, message=note.message)
        for note in notes
    ]
