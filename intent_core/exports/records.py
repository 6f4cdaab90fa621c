"""What reading an export gives: records, rejections, and the tally of both."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError
from intent_core.exports.json_rows import RejectionReason
from intent_core.exports.row_answer import AnswerStage, Note, Tags

MOST_REASONS = 10


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One utterance with the calls it means. A struct, as exports have millions of them."""

    utterance: str
    output: str
    """The calls in canonical form."""
    source: str
    """Name of the file."""
    line: int
    byte_offset: int
    stage: AnswerStage
    version: int | None = None
    """When it was answered, in epoch milliseconds, where the export says so."""
    notes: tuple[Note, ...] = ()
    """What a person should know about this row."""
    alternatives: tuple[str, ...] = ()
    """Other calls that are as right, canonical; for a test set."""
    tags: Tags = ()
    mark_result: str = ""
    """iTAG's id of the answer that was believed (`MarkResultId`), where the export has one."""


class Rejection(BaseModel):
    """A row that cannot be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    line: int
    byte_offset: int
    """Where the row starts in the (decompressed) file."""
    reason: RejectionReason
    message: str
    raw: str
    """The row as it stands, its first 2000 characters."""


class RowReport(BaseModel):
    """A note about a usable row, with its place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    line: int
    byte_offset: int
    kind: str
    message: str


class Tally(BaseModel):
    """What became of an export's rows, and an example of each kind of trouble."""

    model_config = ConfigDict(extra="forbid")

    num_records: int = 0
    num_rejections: int = 0
    reasons: Counter[str] = Counter()
    reports: Counter[str] = Counter()
    examples: dict[str, str] = {}
    """The first rejection of each reason, as `export.manifest:17: message`."""

    @property
    def num_objects(self) -> int:
        """Objects found in the file."""
        return self.num_records + self.num_rejections

    def count(
        self, num_records: int, rejections: Iterable[Rejection], reports: Iterable[RowReport]
    ) -> None:
        """Take some more rows into account."""
        self.num_records += num_records
        self.reports.update(report.kind for report in reports)
        for rejection in rejections:
            self.num_rejections += 1
            self.reasons[rejection.reason] += 1
            place = f"{rejection.source}:{rejection.line}: {rejection.message}"
            self.examples.setdefault(rejection.reason, place)


class ExportReading:
    """Everything one export says."""

    def __init__(self, items: Iterable[Record | Rejection]) -> None:
        records: list[Record] = []
        rejections: list[Rejection] = []
        for item in items:
            if isinstance(item, Record):
                records.append(item)
            else:
                rejections.append(item)
        self.records = tuple(records)
        self.rejections = tuple(rejections)
        self.reports = tuple(report for record in records for report in report_notes(record))
        """The notes of all records, with their places."""
        self.tally = Tally()
        self.tally.count(len(records), rejections, self.reports)


def report_notes(record: Record) -> list[RowReport]:
    """A record's notes, each with its place."""
    place = {"source": record.source, "line": record.line, "byte_offset": record.byte_offset}
    return [RowReport(**place, kind=n.kind, message=n.message) for n in record.notes]


def check_rejections(tally: Tally, path: Path, max_rate: float) -> None:
    """`DataError` when too many rows are unusable, with the reasons and an example of each."""
    # What was forgotten is no fault of the export.
    num_unusable = tally.num_rejections - tally.reasons["forgotten"]
    rate = num_unusable / tally.num_objects if tally.num_objects else 0.0
    if rate <= max_rate:
        return
    listed = [
        f"  {count} x {reason}, as in {tally.examples[reason]}"
        for reason, count in tally.reasons.most_common(MOST_REASONS)
        if reason != "forgotten"
    ]
    raise DataError(
        f"{num_unusable} of {tally.num_objects} rows of {path} are unusable "
        f"({rate:.1%}; data.max_rejection_rate allows {max_rate:.1%}):\n" + "\n".join(listed) + "\n"
        "Correct these rows in the labelling task and export again, or raise "
        "data.max_rejection_rate."
    )
