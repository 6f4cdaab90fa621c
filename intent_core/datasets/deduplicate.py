"""Reduce records to one per utterance: drop repeats and resolve conflicts as the recipe states."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from intent_core.datasets.splits import find_one_split
from intent_core.errors import DataError
from intent_core.exports.records import MadeRows, Record, describe_place
from intent_core.language.calls import fold_label
from intent_core.language.utterances import normalise_utterance
from intent_core.recipe.config import DataConfig


class KeptRecords(Mapping[str, list[Record]]):
    """The kept records by normalised utterance, made when they are read."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._rows: dict[str, Sequence[int]] = {}

    def keep(self, utterance: str, rows: Sequence[int]) -> None:
        """Keep the records with these indices for an utterance; without any, drop it."""
        if rows:
            self._rows[utterance] = rows
        else:
            del self._rows[utterance]

    def list_rows(self, utterance: str) -> Sequence[int]:
        """Return the indices of the records of an utterance."""
        return self._rows[utterance]

    def select(self, utterances: Iterable[str]) -> Sequence[Record]:
        """Return the records of some utterances."""
        rows = array("q", (row for text in utterances for row in self._rows[text]))
        return MadeRows(self._records.__getitem__, rows)

    def __getitem__(self, utterance: str) -> list[Record]:
        return [self._records[row] for row in self._rows[utterance]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class Deduplication(NamedTuple):
    """Records by normalised utterance, and the conflicts between them."""

    kept: KeptRecords
    """One record per utterance; with `data.duplicates: keep` also its repeats."""
    duplicates: Sequence[dict[str, Any]]
    """The records that repeat another record, each with its place and that of the other."""
    conflicts: list[dict[str, Any]]
    """Utterances with different labels, each with all its records."""


class _SameUtterance(NamedTuple):
    """The records of one utterance, in an order that does not depend on that of the export."""

    rows: Sequence[int]
    labels: Sequence[str]
    """The label of each, in the form that is compared."""


def deduplicate(
    records: Iterable[Record], config: DataConfig, tested_groups: Mapping[str, str] | None = None
) -> Deduplication:
    """Group records by utterance and keep records as `duplicates` and `conflicts` state.

    The kept records of an utterance are of groups in one split; see `splits.py`. `tested_groups`
    are those of a fixed test set; None without one.
    """
    records = records if isinstance(records, Sequence) else tuple(records)
    if config.group_by and records:
        _check_groups(records, config.group_by)
    kept, repeats, conflicts = KeptRecords(records), _RepeatedRows(records), []
    for normalised, rows in _group(records):
        if len(rows) == 1:
            kept.keep(normalised, (int(rows[0]),))
            continue
        group = _order(records, rows)
        outputs = Counter(group.labels)
        if len(rows) > len(outputs):
            repeats.add(group)
        first = group.rows[0] if len(outputs) == 1 else _resolve(records, group, outputs, config)
        if first is not None:
            same = _choose(records, group, first, config, tested_groups)
            kept.keep(normalised, same)
            first = same[0] if first not in same else first
        if len(outputs) > 1:
            conflicts.append(_describe(records, group, first))
    return Deduplication(kept, repeats.list_rows(), conflicts)


def _group(records: Sequence[Record]) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Yield each normalised utterance in order, with the indices of its records."""
    numbers: dict[str, int] = {}
    utterances = (normalise_utterance(record.utterance) for record in records)
    of_row = np.fromiter((numbers.setdefault(u, len(numbers)) for u in utterances), np.int64)
    ordered = np.argsort(of_row, kind="stable")
    ends = np.cumsum(np.bincount(of_row, minlength=len(numbers)))
    for normalised in sorted(numbers):
        number = numbers[normalised]
        yield normalised, ordered[ends[number - 1] if number else 0 : ends[number]]


def _order(records: Sequence[Record], rows: npt.NDArray[np.int64]) -> _SameUtterance:
    variants: defaultdict[tuple[str, str, str], array[int]] = defaultdict(lambda: array("q"))
    offsets: defaultdict[tuple[str, str, str], array[int]] = defaultdict(lambda: array("q"))
    for row in rows:
        record = records[row]
        variant = record.utterance, record.output, record.source
        variants[variant].append(row)
        offsets[variant].append(record.byte_offset)
    ordered, labels = array("q"), list[str]()
    for variant in sorted(variants):
        order = np.argsort(np.frombuffer(offsets[variant], np.int64), kind="stable")
        ordered.frombytes(np.frombuffer(variants[variant], np.int64)[order].tobytes())
        labels += [fold_label(variant[1])] * len(order)
    return _SameUtterance(ordered, labels)


class _RepeatedRows:
    """The records that repeat another record."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._rows, self._firsts = array("q"), array("q")

    def add(self, group: _SameUtterance) -> None:
        first: dict[str, int] = {}
        for row, label in zip(group.rows, group.labels, strict=True):
            other = first.setdefault(label, row)
            if other != row:
                self._rows.append(row)
                self._firsts.append(other)

    def list_rows(self) -> Sequence[dict[str, Any]]:
        return MadeRows(self._make, range(len(self._rows)))

    def _make(self, number: int) -> dict[str, Any]:
        record = self._records[self._rows[number]]
        row = {"utterance": record.utterance, "output": record.output}
        other = describe_place(self._records[self._firsts[number]])
        return {**row, **describe_place(record), "repeats": other}


def _choose(
    records: Sequence[Record],
    group: _SameUtterance,
    first: int,
    config: DataConfig,
    tested_groups: Mapping[str, str] | None,
) -> Sequence[int]:
    """Return the rows to keep of those with the label of the row `first`."""
    label = group.labels[group.rows.index(first)]
    pairs = zip(group.rows, group.labels, strict=True)
    same = array("q", (row for row, its in pairs if its == label))
    if config.group_by:
        placed = find_one_split([records[row] for row in same], config, tested_groups)
        same = array("q", (same[place] for place in placed))
    if config.duplicates == "keep":
        return same
    return (first if first in same else same[0],)


def _check_groups(records: Iterable[Record], group_by: str) -> None:
    if not any(record.group for record in records):
        raise DataError(
            f"no usable row has a value under {group_by!r}, which data.group_by names: set it to "
            "the key of the dialogue or speaker, or remove it"
        )


def _resolve(
    records: Sequence[Record], group: _SameUtterance, outputs: Counter[str], config: DataConfig
) -> int | None:
    if config.conflicts == "latest":
        return max(group.rows, key=lambda row: _rank_by_time(records[row]))
    (winner, most), (_, next_most) = outputs.most_common(2)
    if config.conflicts == "majority" and most > next_most:
        return group.rows[group.labels.index(winner)]
    return None


def _rank_by_time(record: Record) -> tuple[int, str, int]:
    return record.version or 0, record.source, record.byte_offset


def _describe(records: Sequence[Record], group: _SameUtterance, kept: int | None) -> dict[str, Any]:
    fields = ("utterance", "output", "stage", "version")
    return {
        "utterance": records[group.rows[0]].utterance,
        "kept": None if kept is None else records[kept].output,
        "records": [
            {**{name: getattr(record, name) for name in fields}, **describe_place(record)}
            for record in map(records.__getitem__, group.rows)
        ],
    }
