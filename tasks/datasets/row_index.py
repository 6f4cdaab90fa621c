"""Rows of the datasets in the store: found by line of the export, by answer, or by utterance."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.manifest import DatasetManifest, Example
from intent_core.datasets.provenance import ORIGINS_FOLDER, FoundOrigin, read_origins
from intent_core.datasets.splits import SplitName
from intent_core.errors import ConfigError
from tasks.datasets.export_ledger import Taking
from tasks.settings import Settings
from tasks.storage.objects import MissingObjectError, ObjectStore
from tasks.storage.step_results import MANIFEST, get_store, read_finished

DATASETS = "datasets"


class RowSought(NamedTuple):
    """A row by one of the ways to name it; what is "" or 0 is not asked for."""

    example: str = ""
    """Id of the example."""
    exports: frozenset[str] = frozenset()
    """The URIs that an export has or had, and a line of it."""
    line: int = 0
    mark_result: str = ""

    def is_met(self, found: FoundOrigin) -> bool:
        origin, source = found
        return (
            (not self.example or origin.id == self.example)
            and (not self.line or (origin.line == self.line and source.uri in self.exports))
            and (not self.mark_result or origin.mark_result == self.mark_result)
        )


class TracedRow(BaseModel):
    """A row of a dataset, and the row of an export it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    """Fingerprint."""
    split: str
    example: str
    """Id of the example."""
    export: str = ""
    """URI; "" where it was not recorded, in datasets of earlier versions."""
    export_etag: str = ""
    export_version: str | None = None
    line: int | None = None
    stage: str = ""
    mark_result: str = ""
    answered: datetime | None = None


class FoundRows(NamedTuple):
    """What was found, and which datasets could not say."""

    rows: list[TracedRow]
    silent: list[str]


def find_rows(store: ObjectStore, sought: RowSought) -> FoundRows:
    """Every row of every dataset that is sought."""
    found = FoundRows([], [])
    for dataset in list_datasets(store):
        folder = f"{dataset.uri}/{ORIGINS_FOLDER}/"
        keys = [one.key for one in store.list(folder)]
        for key in keys:
            found.rows.extend(_search_origins(store, key, dataset.fingerprint, sought))
        if not keys and sought.example:
            found.rows.extend(
                TracedRow(dataset=dataset.fingerprint, split=split, example=sought.example)
                for split, _ in find_examples(store, dataset, sought.example)
            )
        elif not keys:
            found.silent.append(dataset.fingerprint)
    return found


def list_datasets(store: ObjectStore) -> Iterator[DatasetManifest]:
    """The datasets that are complete."""
    for key in [one.key for one in store.list(f"{DATASETS}/")]:
        prefix, _, name = key.rpartition("/")
        if name == MANIFEST and (found := read_finished(store, prefix, DatasetManifest)):
            yield found


def find_examples(
    store: ObjectStore, dataset: DatasetManifest, example: str
) -> list[tuple[SplitName, Example]]:
    """Split and content of the examples of that id."""
    found: list[tuple[SplitName, Example]] = []
    with tempfile.TemporaryDirectory() as name:
        for split, file in dataset.splits.items():
            path = Path(name) / "split"
            try:
                store.download(f"{dataset.uri}/{file.file}", path)
            except MissingObjectError:
                continue
            with path.open("rb") as lines:
                held = [line for line in lines if f'"id":"{example}'.encode() in line]
            found += [(split, Example.model_validate_json(line)) for line in held]
    return found


def parse_row(settings: Settings, text: str) -> tuple[str, RowSought]:
    """`EXPORT:LINE` to the export as it is named and what to look for. `ConfigError` for others.

    The export is a URI, a path, or a key in the store; it may be gone. Copies that `watch-exports`
    made of it are looked for, too.
    """
    export, colon, number = text.rpartition(":")
    if not (colon and export and number.isascii() and number.isdecimal() and int(number)):
        raise ConfigError(
            f"{text!r} is no line of an export: write EXPORT:LINE, as exports/music.manifest:17"
        )
    store = get_store(settings)
    uri = _name_export(settings, store, export)
    copies = {
        found.uri
        for taking in _list_takings(store)
        if taking.source == uri and (found := store.stat(taking.snapshot))
    }
    return export, RowSought(exports=frozenset({uri, *copies}), line=int(number))


def _name_export(settings: Settings, store: ObjectStore, export: str) -> str:
    if "://" in export:
        return export
    if Path(export).is_absolute() or Path(export).exists():
        return Path(export).resolve().as_uri()
    found = store.stat(export)
    root = settings.store_uri
    root = root if "://" in root else Path(root).absolute().as_uri()
    return found.uri if found else f"{root.rstrip('/')}/{export}"


def _list_takings(store: ObjectStore) -> Iterator[Taking]:
    for key in [one.key for one in store.list("ledger/")]:
        if "/taken/" in key:
            yield Taking.model_validate_json(store.read(key))


def _search_origins(
    store: ObjectStore, key: str, dataset: str, sought: RowSought
) -> Iterator[TracedRow]:
    needle = sought.example or sought.mark_result or f'"line":{sought.line},'
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "origins"
        store.download(key, path)
        for origin, source in read_origins(path, sought.is_met, needle):
            answered = origin.answered
            yield TracedRow(
                dataset=dataset,
                split=origin.split,
                example=origin.id,
                export=source.uri,
                export_etag=source.etag,
                export_version=source.version,
                line=origin.line,
                stage=origin.stage,
                mark_result=origin.mark_result,
                answered=_to_time(answered) if answered else None,
            )


def _to_time(milliseconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
