"""Tables of labelled rows or utterances: CSV and TSV, each row an object of its columns."""

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO

from intent_core.errors import DataError
from intent_core.exports.files.blocks import BOM
from intent_core.exports.files.json_rows import MAX_RAW, Row, RowFault, list_some
from intent_core.language.invisible import strip_invisible
from intent_core.recipe.config import DataConfig

_MAX_CELL = 1 << 20
# What training rows have in addition to text.
_JSON_COLUMNS = {"history", "alternatives", "tags"}


def detect_table(start: bytes, name: str, config: DataConfig) -> str:
    """Return the delimiter, if the first line is a header with the utterance's column, or "".

    Args:
        start: the first bytes of the file.
        name: name of the file.
        config: the `data` section of the recipe; it names the column.

    Raises:
        DataError: the file is called a table, and has no such column.
    """
    lines = start.removeprefix(BOM).splitlines()
    header = next((line for line in lines if line.strip(b" \t,;|")), b"")
    text = header.decode("utf-8", "replace")
    for delimiter in ("\t", ",", ";", "|"):
        columns = _split_header(text, delimiter)
        if _find_column(columns, _name_utterances(config)) and (
            len(columns) > 1 or delimiter == ","
        ):
            return delimiter
    named = name.lower().removesuffix(".gz")
    if named.endswith((".csv", ".tsv")) and text:
        delimiter = "\t" if named.endswith(".tsv") else ","
        there = list_some(_split_header(text, delimiter))
        raise DataError(
            f"{name} has no column {config.utterance_field!r} (it has {there}). Name the "
            "utterances' column in data.utterance_field, or rename it."
        )
    return ""


def _split_header(line: str, delimiter: str) -> list[str]:
    try:
        return [
            strip_invisible(cell).strip()
            for cell in next(csv.reader([line], delimiter=delimiter), [])
        ]
    except csv.Error:
        return []


def _name_utterances(config: DataConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys((config.utterance_field, "instruction")))


def _find_column(columns: Iterable[str], names: Iterable[str]) -> str:
    there = set(columns)
    return next((name for name in names if name in there), "")


class TextLines:
    """The lines of a stream as text, with the number and the byte offset of the next one."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.number, self.offset = 0, 0
        self.end = 0
        self.raw: list[str] = []
        self._name = name
        self._file = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")

    def __iter__(self) -> Iterator[str]:
        try:
            for line in self._file:
                self.number += 1
                self.end += len(line.encode("utf-8", "surrogateescape"))
                self.raw.append(line)
                yield line
        finally:
            # The stream is not ours to close. ValueError: it was closed already.
            with contextlib.suppress(ValueError):
                self._file.detach()

    def take_raw(self) -> tuple[int, str]:
        """The offset and the text of the lines since the last call."""
        offset, self.offset = self.offset, self.end
        raw, self.raw = "".join(self.raw), []
        return offset, raw


def read_table(stream: IO[bytes], delimiter: str, name: str, config: DataConfig) -> Iterator[Row]:
    """Read a table row by row.

    Args:
        stream: the table, at its start.
        delimiter: between two cells.
        name: name of the file, for messages.
        config: the `data` section of the recipe; it names the columns.

    Raises:
        DataError: a quote is not closed, or the header has a column twice.
    """
    csv.field_size_limit(_MAX_CELL)
    lines = TextLines(stream, name)
    # Strict: a quote that is never closed would swallow every row after it.
    cells = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    columns: list[str] = []
    line = 1
    try:
        for row in cells:
            offset, raw = lines.take_raw()
            if any(map(str.strip, row)):
                if columns:
                    yield _make_row(columns, row, (line, offset, raw.rstrip("\r\n")), config)
                else:
                    columns = _check_header([strip_invisible(cell).strip() for cell in row], name)
            line = lines.number + 1
    except csv.Error as error:
        raise DataError(
            f"{name}:{line}: the row cannot be read ({error}). Close the quotes of this row."
        ) from error


def _check_header(columns: list[str], name: str) -> list[str]:
    repeated = [(column, n) for column, n in Counter(columns).items() if n > 1 and column]
    if repeated:
        column, times = repeated[0]
        raise DataError(
            f"{name}: the column {column!r} occurs {times} times in the header. Rename or remove "
            "one of them."
        )
    return [column or f"column {number}" for number, column in enumerate(columns, 1)]


def _make_row(
    columns: list[str], cells: list[str], place: tuple[int, int, str], config: DataConfig
) -> Row:
    line, offset, raw = place
    if len(cells) > len(columns):
        message = (
            f"The row has {len(cells)} cells for {len(columns)} column(s). "
            "Put quotes around a text that contains the separator."
        )
        fault = RowFault(reason="wrong-cells", message=message)
        return Row(line, offset, raw[:MAX_RAW], fault=fault)
    named = {column: cell for column, cell in zip(columns, cells, strict=False) if cell.strip()}
    value = {column: _read_cell(column, cell) for column, cell in named.items()}
    for column in (_find_column(columns, _name_utterances(config)), _find_label(columns, config)):
        if column:
            value.setdefault(column, "")
    return Row(line, offset, raw[:MAX_RAW], value)


def _find_label(columns: Iterable[str], config: DataConfig) -> str:
    return _find_column(columns, (config.question_title, "output"))


def _read_cell(column: str, cell: str) -> object:
    """A cell as text; columns of training rows that are lists or objects as JSON."""
    if column in _JSON_COLUMNS:
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            pass
    return cell
