"""Read an export into records and rejections.

The format of each row is detected from its content (`formats`). An unusable row becomes a
`Rejection` with its place and the reason. No row is dropped silently: every object of the file
becomes one record or one rejection, which is checked for each block.

    for item in iter_export(path, config):    # any number of rows, in little memory
    reading = read_export(path, config)       # the whole export at once
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from intent_core.errors import DataError
from intent_core.exports.annotators import UNKNOWN_ORIGIN, AnswerOrigin
from intent_core.exports.fast_path import UsualRows
from intent_core.exports.files.blocks import Block
from intent_core.exports.files.json_rows import (
    MAX_RAW,
    TYPE_NAMES,
    Row,
    RowFault,
    RowRefused,
    name_type,
    parse_line,
    refuse_cut,
)
from intent_core.exports.files.repeated_keys import Repeats
from intent_core.exports.files.sources import RowBatch, parse_block, read_parts
from intent_core.exports.formats import detect_format
from intent_core.exports.records import ExportReading, Record, Rejection
from intent_core.exports.row_answer import Note, RowAnswer, find_group, note_repeats, tolerate
from intent_core.language.invisible import fold_keys
from intent_core.recipe.choices import Leniency
from intent_core.recipe.config import DataConfig

# Prepared, because these rows are the shortest and a file may have millions of them.
_NOT_OBJECTS = {
    name: RowFault(
        "not-an-object",
        f"a row must be a JSON object, not {name}: export the labelled data as objects with 'data'",
    )
    for name in TYPE_NAMES
}
_EMPTY = RowFault("no-utterance", "the row is an empty object: remove it, or export the data again")


def iter_export(path: Path, config: DataConfig) -> Iterator[Record | Rejection]:
    """Read an export row by row, in the order of the file.

    Args:
        path: the export.
        config: the `data` section of the recipe.

    Raises:
        DataError: the file cannot be read or does not contain rows.
    """
    reader = BlockReader(path.name, config)
    is_empty = True
    for source, rows in read_parts(path, config):
        if source != reader.source:
            reader = BlockReader(source, config)
        records, rejections = reader.read(rows)
        items: list[Record | Rejection] = [*records, *rejections]
        if records and rejections:
            items.sort(key=lambda item: item.byte_offset)
        is_empty = is_empty and not items
        yield from items
    if is_empty:
        raise DataError(f"{path} does not contain rows: export the labelled data again")


def read_export(path: Path, config: DataConfig) -> ExportReading:
    """Read a whole export into memory.

    Args:
        path: the export.
        config: the `data` section of the recipe.

    Raises:
        DataError: the file cannot be read or does not contain rows.
    """
    return ExportReading(iter_export(path, config))


def read_answer(
    row: object,
    config: DataConfig,
    slips: Sequence[tuple[Leniency, str]] = (),
    repeats: Repeats = (),
) -> RowAnswer | RowFault:
    """Read one row; an unusable row gives a `RowFault`, not an exception.

    Args:
        row: the parsed JSON value.
        config: the `data` section of the recipe.
        slips: deviations from the format found while parsing the row: (kind, message).
        repeats: keys that one of its objects has more than once.
    """
    if not isinstance(row, dict):
        return _NOT_OBJECTS[name_type(row)]
    if not row:
        return _EMPTY
    notes: list[Note] = []
    try:
        note_repeats(repeats, config, notes)
        row = fold_row(row)
        answer = detect_format(row, config).read(row, config, notes)
        group = find_group(row, config)
        for kind, message in slips:
            tolerate(kind, message, config, notes)
    except RowRefused as refused:
        return RowFault(*refused.args)
    if not notes and not group:
        return answer
    return answer.model_copy(update={"notes": tuple(notes), "group": group})


def find_utterance(row: object, config: DataConfig) -> str | None:
    """Return the utterance of a row, also of one that is rejected; None without one.

    Args:
        row: the parsed JSON value.
        config: the `data` section of the recipe.
    """
    if not isinstance(row, dict):
        return None
    try:
        row = fold_row(row)
        utterance = detect_format(row, config).find_utterance(row, config)
    except RowRefused:
        return None
    return utterance if isinstance(utterance, str) and utterance.strip() else None


def fold_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its keys, and those of `data`, without invisible characters.

    Args:
        row: one JSON object.
    """
    row = fold_keys(row)
    data = row.get("data")
    return {**row, "data": fold_keys(data)} if isinstance(data, dict) else row


def find_origin(row: object, config: DataConfig) -> AnswerOrigin:
    """Return who gave the answers of a row, also of one that is rejected.

    Args:
        row: the parsed JSON value.
        config: the `data` section of the recipe.
    """
    if not isinstance(row, dict):
        return UNKNOWN_ORIGIN
    try:
        row = fold_row(row)
        return detect_format(row, config).find_origin(row, config)
    except RowRefused:
        return UNKNOWN_ORIGIN


def reject(
    source: str, row: Row, fault: RowFault, origin: AnswerOrigin = UNKNOWN_ORIGIN
) -> Rejection:
    """Return the rejection of a row.

    Args:
        source: name of the file.
        row: the row with its place.
        fault: why it is rejected.
        origin: who gave its answers.
    """
    reason, message = fault
    message = message if len(message) <= MAX_RAW else f"{message[:MAX_RAW]}..."
    raw = row.raw
    if not raw.isascii() or len(raw) > MAX_RAW:
        # A broken byte is shown as U+FFFD.
        raw = raw[:MAX_RAW].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Rejection(source, row.line, row.offset, reason, message, raw, *origin)


class BlockItems(NamedTuple):
    """Records and rejections of a block, each in the order of the file."""

    records: list[Record]
    rejections: list[Rejection]


class BlockReader:
    """Reads the blocks of one file; gets faster once it has learned the layout of its rows."""

    def __init__(self, source: str, config: DataConfig) -> None:
        self.source = source
        self.config = config
        self._usual = UsualRows(source, config)

    def read(self, rows: Block | RowBatch) -> BlockItems:
        """Read some rows; each object becomes one record or one rejection."""
        items = BlockItems([], [])
        num_objects = (
            self._read_lines(rows, items)
            if isinstance(rows, Block)
            else self._read_batch(rows, items)
        )
        if len(items.records) + len(items.rejections) != num_objects:
            raise AssertionError(
                f"{num_objects} objects became {len(items.records)} records and "
                f"{len(items.rejections)} rejections"
            )
        return items

    def _read_batch(self, batch: RowBatch, items: BlockItems) -> int:
        for row in batch.rows:
            self._judge(row, items)
        return len(batch.rows)

    def _read_lines(self, block: Block, items: BlockItems) -> int:
        others: list[bytes] = []
        self._usual.begin_block()
        num_objects, num_usual = self._read_each(block, items, others)
        if self._usual.may_repeat_keys(block.content, others, num_usual):
            items.records.clear()
            items.rejections.clear()
            return self._read_batch(RowBatch(list(parse_block(block))), items)
        return num_objects

    def _read_each(self, block: Block, items: BlockItems, others: list[bytes]) -> tuple[int, int]:
        """Return how many objects there are, and how many of them were read the fast way."""
        num_objects = 0
        number, offset = block.line, block.offset
        cut_at = offset + len(block.content) if block.is_cut else -1
        read_usual, keep = self._usual.read, items.records.append
        for line in io.BytesIO(block.content):
            end = offset + len(line)
            if end == cut_at:
                num_objects += 1
                others.append(line)
                self._judge(refuse_cut(line, number, offset), items)
            elif usual := read_usual(line, number, offset):
                keep(usual)
            else:
                num_read = number - block.line - len(others)
                others.append(line)
                for row in parse_line(line, number, offset):
                    num_objects += 1
                    if answer := self._judge(row, items):
                        self._usual.learn(line, row.value, answer, num_read)
                        read_usual = self._usual.read
            number += 1
            offset = end
        num_usual = number - block.line - len(others)
        return num_objects + num_usual, num_usual

    def _find_typed(self, row: object, answer: RowAnswer) -> str:
        if not any(note.kind == "invisible-characters" for note in answer.notes):
            return ""
        return find_utterance(row, self.config) or ""

    def _judge(self, row: Row, items: BlockItems) -> RowAnswer | None:
        """Add one object to the items; return its answer, or None if it was rejected."""
        answer = row.fault or read_answer(row.value, self.config, row.slips, row.repeats)
        if isinstance(answer, RowFault):
            origin = find_origin(row.value, self.config)
            items.rejections.append(reject(self.source, row, answer, origin))
            return None
        record = Record(
            utterance=answer.utterance,
            output=answer.output,
            source=self.source,
            line=row.line,
            byte_offset=row.offset,
            stage=answer.stage,
            version=answer.version,
            notes=answer.notes,
            alternatives=answer.alternatives,
            tags=answer.tags,
            mark_result=answer.mark_result,
            group=answer.group,
            annotator=answer.annotator,
            typed_utterance=self._find_typed(row.value, answer),
        )
        items.records.append(record)
        return answer
