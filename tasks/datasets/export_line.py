"""What a line of an export says, or said when a dataset was made of it."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from intent_core.errors import DataError, ServiceError
from intent_core.exports.json_rows import parse_line
from intent_core.exports.reader import iter_export
from intent_core.exports.records import Record
from intent_core.recipe.config import DataConfig
from tasks.datasets.fetch import fetch_export
from tasks.datasets.row_index import TracedRow, find_examples, list_datasets
from tasks.settings import Settings
from tasks.storage.step_results import get_store


class Person(NamedTuple):
    """What somebody said, as far as it is known."""

    utterance: str
    mark_result: str


def read_person(settings: Settings, row: TracedRow) -> Person:
    """Who said what a dataset's row has."""
    store = get_store(settings)
    for dataset in list_datasets(store):
        if dataset.fingerprint == row.dataset:
            for _, example in find_examples(store, dataset, row.example):
                return Person(example.instruction, row.mark_result)
    raise DataError(
        f"dataset {row.dataset} has lost the splits of {row.export}:{row.line}: say --utterance"
    )


def read_line(export: str, line: int, config: DataConfig) -> set[Person]:
    """What the export says there now; nothing where it is gone."""
    people: set[Person] = set()
    # Not among the worker's files: what is to be forgotten must not be copied there.
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
    """The utterance of a row that could not be used, such as one that was abandoned."""
    people = set()
    for row in parse_line(raw.encode("utf-8", "replace"), 1, 0):
        fields = row.value if isinstance(row.value, dict) else {}
        inner = fields.get("data")
        inner = inner if isinstance(inner, dict) else fields
        text = inner.get(config.utterance_field) or inner.get("instruction")
        if isinstance(text, str) and text.strip():
            people.add(Person(text.strip(), ""))
    return people
