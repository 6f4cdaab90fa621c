"""Reduce records to one per utterance: drop repeats and resolve conflicts as the recipe states."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from intent_core.datasets.splits import keep_one_split
from intent_core.errors import DataError
from intent_core.exports.records import Record, describe_place
from intent_core.language.calls import fold_label
from intent_core.language.utterances import normalise_utterance
from intent_core.recipe.config import DataConfig


class Deduplication(NamedTuple):
    """Records by normalised utterance, and the conflicts between them."""

    kept: dict[str, list[Record]]
    """One record per utterance; with `data.duplicates: keep` also its repeats."""
    duplicates: list[dict[str, Any]]
    """The records that repeat another record, each with its place and that of the other."""
    conflicts: list[dict[str, Any]]
    """Utterances with different labels, each with all its records."""


def deduplicate(
    records: Iterable[Record], config: DataConfig, tested_groups: Mapping[str, str] | None = None
) -> Deduplication:
    """Group records by utterance and keep records as `duplicates` and `conflicts` state.

    The kept records of an utterance are of groups in one split; see `splits.py`. `tested_groups`
    are those of a fixed test set; None without one.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(normalise_utterance(record.utterance), []).append(record)
    if config.group_by and groups:
        _check_groups(groups.values(), config.group_by)
    unique = Deduplication({}, [], [])
    for normalised, group in sorted(groups.items()):
        # The bytes written must not depend on the order of the export.
        group.sort(key=lambda r: (r.utterance, r.output, r.source, r.byte_offset))
        outputs = Counter(fold_label(record.output) for record in group)
        if len(group) > len(outputs):
            unique.duplicates.extend(_list_repeats(group))
        kept = group[0] if len(outputs) == 1 else _resolve(group, outputs, config)
        if kept:
            label = fold_label(kept.output)
            same = [record for record in group if fold_label(record.output) == label]
            if config.group_by:
                same = keep_one_split(same, config, tested_groups)
                kept = kept if kept in same else same[0]
            unique.kept[normalised] = same if config.duplicates == "keep" else [kept]
        if len(outputs) > 1:
            unique.conflicts.append(_describe(group, kept))
    return unique


def _check_groups(groups: Iterable[list[Record]], group_by: str) -> None:
    if not any(record.group for group in groups for record in group):
        raise DataError(
            f"no usable row has a value under {group_by!r}, which data.group_by names: set it to "
            "the key of the dialogue or speaker, or remove it"
        )


def _list_repeats(group: Iterable[Record]) -> Iterator[dict[str, Any]]:
    first: dict[str, Record] = {}
    for record in group:
        other = first.setdefault(fold_label(record.output), record)
        if other is not record:
            row = {"utterance": record.utterance, "output": record.output}
            yield {**row, **describe_place(record), "repeats": describe_place(other)}


def _resolve(group: Sequence[Record], outputs: Counter[str], config: DataConfig) -> Record | None:
    if config.conflicts == "latest":
        return max(group, key=lambda r: (r.version or 0, r.source, r.byte_offset))
    (winner, most), (_, next_most) = outputs.most_common(2)
    if config.conflicts == "majority" and most > next_most:
        return next(record for record in group if fold_label(record.output) == winner)
    return None


def _describe(group: Sequence[Record], kept: Record | None) -> dict[str, Any]:
    fields = ("utterance", "output", "stage", "version")
    return {
        "utterance": group[0].utterance,
        "kept": kept.output if kept else None,
        "records": [
            {**{name: getattr(record, name) for name in fields}, **describe_place(record)}
            for record in group
        ],
    }
