"""Read the content of a line of an export, now or when a dataset was made from it."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from intent_core.errors import DataError, ServiceError
from intent_core.exports.files.json_rows import parse_line
from intent_core.exports.reader import find_utterance, iter_export
from intent_core.exports.records import Record
from intent_core.language.invisible import strip_invisible
from intent_core.recipe.config import DataConfig
from tasks.datasets.fetch import fetch_export
from tasks.datasets.row_index import TracedRow, find_examples, list_datasets
from tasks.settings import Settings
from tasks.storage.step_results import get_store


class Person(NamedTuple):
    """The utterance and the answer's id of a row; "" if unknown."""

    utterance: str
    mark_result: str


def read_person(settings: Settings, row: TracedRow) -> Person:
    """Return the utterance and the answer's id of a dataset's row."""
    store = get_store(settings)
    for dataset in list_datasets(store):
        if dataset.fingerprint == row.dataset:
            for _, example in find_examples(store, dataset, row.example):
                return Person(example.instruction, row.mark_result)
    raise DataError(
        f"the splits of dataset {row.dataset} with {row.export}:{row.line} are missing from the "
        "store; pass --utterance instead"
    )


def read_line(export: str, line: int, config: DataConfig) -> set[Person]:
    """Return the current content of a line of an export; empty if the export no longer exists."""
    people: set[Person] = set()
    # Not in the work folder, where data that must be erased would stay.
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = fetch_export(export, Path(folder)).path
        except (DataError, ServiceError):
            return people
        for item in iter_export(path, config):
            if item.line != line:
                continue
            if isinstance(item, Record):
                people.add(Person(item.utterance, item.mark_result))
            else:
                people |= _read_refused(item.raw, config)
    return people


def _read_refused(raw: str, config: DataConfig) -> set[Person]:
    """Return the utterance of a rejected row, such as an abandoned one."""
    people = set()
    for row in parse_line(raw.encode("utf-8", "replace"), 1, 0):
        if utterance := find_utterance(row.value, config):
            people.add(Person(strip_invisible(utterance).strip(), ""))
    return people
