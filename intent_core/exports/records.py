"""The result of reading an export: records, rejections, and their counts."""

import operator
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import msgspec
from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError
from intent_core.exports.files.json_rows import RejectionReason
from intent_core.exports.row_answer import AnswerStage, Note, Tags

MOST_REASONS = 10
MOST_LISTED = 20_000
"""Of the rejections of an export that is read into memory, and of its notes."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One utterance with its calls. A struct, because exports have millions of them."""

    utterance: str
    output: str
    """The calls in canonical form."""
    source: str
    """Name of the file."""
    line: int
    byte_offset: int
    stage: AnswerStage
    version: int | None = None
    """Time of the answer in epoch milliseconds, if the export states it."""
    notes: tuple[Note, ...] = ()
    """Notes about this row for the user."""
    alternatives: tuple[str, ...] = ()
    """Other correct calls in canonical form; for a test set."""
    tags: Tags = ()
    mark_result: str = ""
    """iTAG's id of the used answer (`MarkResultId`); "" if the export does not state it."""
    group: str = ""
    """The dialogue or the speaker, as `data.group_by` names it; "" if the row does not say."""
    typed_utterance: str = ""
    """The utterance with its invisible characters, if some were removed: erasure requests that were
    made before they were removed are found by it."""
    annotator: str = ""
    """Who gave the used answer; "" if the export does not state it."""


def describe_place(record: Record) -> dict[str, Any]:
    """Return the place of a record in its export, and who labelled it if the export states it.

    Args:
        record: a usable row.
    """
    place: dict[str, Any] = {name: getattr(record, name) for name in _PLACE}
    return place | {name: value for name in _ORIGIN if (value := getattr(record, name))}


class Rejection(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """A rejected row, with its place and the reason. A struct, because a file may have millions."""

    source: str
    line: int
    byte_offset: int
    """Start of the row in the (decompressed) file."""
    reason: RejectionReason
    message: str
    raw: str
    """The first 2000 characters of the row."""
    mark_result: str = ""
    """iTAG's id of the answer, or ids; "" if the export does not state them."""
    annotator: str = ""
    """Who gave the answer, or answers; "" if the export does not state them."""


class RowReport(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """A note about a usable row, with its place."""

    source: str
    line: int
    byte_offset: int
    kind: str
    message: str
    mark_result: str = ""
    annotator: str = ""


_PLACE = ("source", "line", "byte_offset")
_ORIGIN = ("mark_result", "annotator")

_T = TypeVar("_T")
RowT = TypeVar("RowT", Rejection, RowReport)


class Tally(BaseModel):
    """Counts of an export's records, rejections and notes, with an example of each reason."""

    model_config = ConfigDict(extra="forbid")

    num_records: int = 0
    num_rejections: int = 0
    reasons: Counter[str] = Counter()
    reports: Counter[str] = Counter()
    examples: dict[str, str] = {}
    """The first rejection of each reason, in the form `export.manifest:17: message`."""

    @property
    def num_objects(self) -> int:
        """Number of objects in the file."""
        return self.num_records + self.num_rejections

    def count(
        self, num_records: int, rejections: Iterable[Rejection], reports: Iterable[RowReport]
    ) -> None:
        """Add rows to the counts."""
        self.num_records += num_records
        for report in reports:
            self.reports[report.kind] += 1
        for rejection in rejections:
            self.count_rejection(rejection)

    def count_rejection(self, rejection: Rejection) -> None:
        """Add one rejected row to the counts."""
        self.num_rejections += 1
        self.reasons[rejection.reason] += 1
        if rejection.reason not in self.examples:
            place = f"{rejection.source}:{rejection.line}: {rejection.message}"
            self.examples[rejection.reason] = place

    def withdraw(self, reason: RejectionReason, example: str) -> None:
        """Count a row as rejected that was counted as a record."""
        self.num_records -= 1
        self.num_rejections += 1
        self.reasons[reason] += 1
        self.examples.setdefault(reason, example)


class MadeRows(Sequence[_T], Generic[_T]):
    """A sequence whose items are made each time they are read."""

    def __init__(self, make: Callable[[int], _T], numbers: Sequence[int]) -> None:
        """Make nothing yet.

        Args:
            make: makes an item from a number.
            numbers: one for each item.
        """
        self._make = make
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        if isinstance(index, slice):
            return [self._make(number) for number in self._numbers[index]]
        return self._make(self._numbers[index])

    def __iter__(self) -> Iterator[_T]:
        return map(self._make, self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


# The columns; what is left of a record is usually the same for all rows of an export.
_TEXTS = ("utterance", "output", "mark_result")
_COLUMNS = {*_TEXTS, "line", "byte_offset", "version"}
_OTHERS = tuple(name for name in Record.__struct_fields__ if name not in _COLUMNS)
_get_others = operator.attrgetter(*_OTHERS)
_NO_VERSION = -(2**63)


class RecordTable(MadeRows[Record]):
    """Records in columns of numbers and one text: a fraction of the memory of an object each."""

    def __init__(self) -> None:
        """Start without a record."""
        super().__init__(self._make_record, range(0))
        self._text = bytearray()
        self._ends = array("q", [0])
        self._places = array("q")
        self._versions = array("q")
        self._kinds = array("i")
        self._others: list[dict[str, Any]] = []
        self._numbers_of_others: dict[tuple[Any, ...], int] = {}

    def append(self, record: Record) -> None:
        """Add a record."""
        for text in (record.utterance, record.output, record.mark_result):
            self._text += text.encode("utf-8", "surrogatepass")
            self._ends.append(len(self._text))
        self._places.append(record.line)
        self._places.append(record.byte_offset)
        self._versions.append(_NO_VERSION if record.version is None else record.version)
        others = _get_others(record)
        kind = self._numbers_of_others.setdefault(others, len(self._others))
        if kind == len(self._others):
            self._others.append(dict(zip(_OTHERS, others, strict=True)))
        self._kinds.append(kind)
        self._numbers = range(len(self._kinds))

    def _make_record(self, number: int) -> Record:
        start, *ends = self._ends[3 * number : 3 * number + 4]
        texts = []
        for end in ends:
            texts.append(self._text[start:end].decode("utf-8", "surrogatepass"))
            start = end
        version = self._versions[number]
        return Record(
            utterance=texts[0],
            output=texts[1],
            mark_result=texts[2],
            line=self._places[2 * number],
            byte_offset=self._places[2 * number + 1],
            version=None if version == _NO_VERSION else version,
            **self._others[self._kinds[number]],
        )


class ExportReading:
    """All records of one export, its first rejections and notes, and the counts of all."""

    def __init__(self, items: Iterable[Record | Rejection]) -> None:
        records = RecordTable()
        rejections: list[Rejection] = []
        reports: list[RowReport] = []
        self.tally = Tally()
        for item in items:
            if isinstance(item, Rejection):
                self.tally.count_rejection(item)
                if len(rejections) < MOST_LISTED:
                    rejections.append(item)
                continue
            records.append(item)
            if item.notes:
                self.tally.reports.update(note.kind for note in item.notes)
                if len(reports) < MOST_LISTED:
                    reports += report_notes(item)
        self.tally.num_records = len(records)
        self.records = records
        self.rejections = tuple(_mention_more(rejections, self.tally.num_rejections))
        """At most `MOST_LISTED`; then the last one says how many more there are."""
        self.reports = tuple(_mention_more(reports, self.tally.reports.total()))
        """The notes of the records, each with its place, as many as of the rejections."""


def _mention_more(rows: list[RowT], total: int) -> list[RowT]:
    if not rows or total <= len(rows):
        return rows
    more = f"{total - len(rows)} more after this one are not listed here; `intent convert` has all"
    rows[-1] = msgspec.structs.replace(rows[-1], message=f"{rows[-1].message} ({more})")
    return rows


def report_notes(record: Record) -> list[RowReport]:
    """Return the notes of a record, each with its place."""
    place = (record.source, record.line, record.byte_offset)
    origin = (record.mark_result, record.annotator)
    return [RowReport(*place, note.kind, note.message, *origin) for note in record.notes]


def check_rejections(tally: Tally, path: Path | str, max_rate: float) -> None:
    """Raise an error if too many rows were rejected.

    Rows that the erasure list excludes do not count.

    Args:
        tally: the counts of the export.
        path: path or URI of the export, for the message.
        max_rate: maximum fraction of rejected rows, 0 to 1.

    Raises:
        DataError: the fraction is larger; the message lists the reasons with an example of each.
    """
    # An excluded row is not an error in the export.
    num_unusable = tally.num_rejections - tally.reasons["forgotten"]
    rate = num_unusable / tally.num_objects if tally.num_objects else 0.0
    if rate <= max_rate:
        return
    listed = [
        f"  {count} x {reason}{_cite(tally, reason)}"
        for reason, count in tally.reasons.most_common(MOST_REASONS)
        if reason != "forgotten"
    ]
    raise DataError(
        f"{num_unusable} of {tally.num_objects} rows of {path} were rejected "
        f"({rate:.1%}; data.max_rejection_rate allows {max_rate:.1%}):\n" + "\n".join(listed) + "\n"
        "Correct these rows in the labelling task and export again, or raise "
        "data.max_rejection_rate."
    )


def _cite(tally: Tally, reason: str) -> str:
    return f", e.g. {tally.examples[reason]}" if reason in tally.examples else ""
