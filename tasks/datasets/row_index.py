"""Find rows of the datasets in the store by line of the export, by answer, or by utterance."""

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
from tasks.datasets.export_ledger import list_takings
from tasks.settings import Settings
from tasks.storage.layout import DATASETS
from tasks.storage.objects import MissingObjectError, ObjectStore
from tasks.storage.step_results import MANIFEST, get_store, read_finished


class RowSought(NamedTuple):
    """Criteria of a search for rows; "" and 0 match every row."""

    example: str = ""
    """Id of the example."""
    exports: frozenset[str] = frozenset()
    """All current and earlier URIs of an export; used together with `line`."""
    line: int = 0
    mark_result: str = ""

    def is_met(self, match: FoundOrigin) -> bool:
        origin, source = match
        return (
            (not self.example or origin.id == self.example)
            and (not self.line or (origin.line == self.line and source.uri in self.exports))
            and (not self.mark_result or origin.mark_result == self.mark_result)
        )


class TracedRow(BaseModel):
    """A row of a dataset, and the row of the export it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    """Fingerprint of the dataset."""
    split: str
    example: str
    """Id of the example."""
    export: str = ""
    """URI; "" if it was not recorded, as in datasets of earlier versions."""
    export_etag: str = ""
    export_version: str | None = None
    line: int | None = None
    stage: str = ""
    mark_result: str = ""
    answered: datetime | None = None


class FoundRows(NamedTuple):
    """The matching rows, and the datasets that have no record of their rows."""

    rows: list[TracedRow]
    silent: list[str]


def find_rows(store: ObjectStore, sought: RowSought) -> FoundRows:
    """Find the matching rows of every dataset."""
    matches = FoundRows([], [])
    for dataset in list_datasets(store):
        keys = [file.key for file in store.scan(f"{dataset.uri}/{ORIGINS_FOLDER}/")]
        for key in keys:
            matches.rows.extend(_search_origins(store, key, dataset.fingerprint, sought))
        if not keys and sought.example:
            matches.rows.extend(
                TracedRow(dataset=dataset.fingerprint, split=split, example=sought.example)
                for split, _ in find_examples(store, dataset, sought.example)
            )
        elif not keys:
            matches.silent.append(dataset.fingerprint)
    return matches


def list_datasets(store: ObjectStore) -> Iterator[DatasetManifest]:
    """Iterate over the complete datasets."""
    for file in store.scan(DATASETS.prefix):
        prefix, _, name = file.key.rpartition("/")
        if name == MANIFEST and (dataset := read_finished(store, prefix, DatasetManifest)):
            yield dataset


def find_examples(
    store: ObjectStore, dataset: DatasetManifest, example: str
) -> list[tuple[SplitName, Example]]:
    """Return split and content of the examples with that id."""
    examples: list[tuple[SplitName, Example]] = []
    with tempfile.TemporaryDirectory() as name:
        for split, file in dataset.splits.items():
            path = Path(name) / "split"
            try:
                store.download(f"{dataset.uri}/{file.file}", path)
            except MissingObjectError:
                continue
            with path.open("rb") as lines:
                held = [line for line in lines if f'"id":"{example}'.encode() in line]
            examples += [(split, Example.model_validate_json(line)) for line in held]
    return examples


def parse_row(settings: Settings, text: str) -> tuple[str, RowSought]:
    """Parse `EXPORT:LINE`; return the export as given and the search criteria.

    The export is a URI, a path, or a key in the store, and need not exist any longer. Copies that
    `watch-exports` made of it are included. Raises `ConfigError` for any other text.
    """
    export, colon, number = text.rpartition(":")
    if not (colon and export and number.isascii() and number.isdecimal() and int(number)):
        raise ConfigError(
            f"{text!r} is not a row reference; expected EXPORT:LINE, e.g. exports/music.manifest:17"
        )
    store = get_store(settings)
    uri = _name_export(settings, store, export)
    copies = {
        snapshot.uri
        for taking in list_takings(store)
        if taking.source == uri and (snapshot := store.stat(taking.snapshot))
    }
    return export, RowSought(exports=frozenset({uri, *copies}), line=int(number))


def _name_export(settings: Settings, store: ObjectStore, export: str) -> str:
    if "://" in export:
        return export
    if Path(export).is_absolute() or Path(export).exists():
        return Path(export).resolve().as_uri()
    stored = store.stat(export)
    root = settings.store_uri
    root = root if "://" in root else Path(root).absolute().as_uri()
    return stored.uri if stored else f"{root.rstrip('/')}/{export}"


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
