"""Results of finished steps: small manifests in the store, written last, read by the next step.

A manifest's key is the fingerprint of all inputs of the step. Its presence means that the step is
complete, so a step that finds its manifest returns at once, on any machine.
"""

import tempfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from intent_core.datasets.manifest import DatasetManifest, Example, read_split
from intent_core.datasets.splits import SplitName
from intent_core.errors import StorageError
from tasks.settings import Settings
from tasks.storage.objects import MissingObjectError, ObjectStore
from tasks.storage.open import open_store

ValueT = TypeVar("ValueT", bound=BaseModel)
MANIFEST = "manifest.json"


def get_store(settings: Settings) -> ObjectStore:
    """Open the store that all steps share."""
    return open_store(settings.store_uri)


def read_finished(store: ObjectStore, prefix: str, kind: type[ValueT]) -> ValueT | None:
    """Return the result that an earlier run left at `prefix`; None if the step is not finished."""
    try:
        return kind.model_validate_json(store.read(f"{prefix}/{MANIFEST}"))
    except MissingObjectError:
        return None
    except ValidationError:
        # Written by another version of this software, so the step runs again.
        return None


def require_finished(store: ObjectStore, prefix: str, kind: type[ValueT]) -> ValueT:
    """Like `read_finished`, but raise `StorageError` if the step is not finished."""
    value = read_finished(store, prefix, kind)
    if value is None:
        raise StorageError(
            f"{prefix}/{MANIFEST} is missing from the store although the step succeeded"
        )
    return value


def write_finished(store: ObjectStore, prefix: str, value: BaseModel) -> None:
    """Mark a step complete; everything that `value` refers to must be in the store already."""
    store.put(f"{prefix}/{MANIFEST}", value.model_dump_json(indent=1).encode())


def work_folder(settings: Settings, *parts: str) -> Path:
    """Create and return a local folder for the files of a step."""
    folder = settings.layout.work.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_examples(store: ObjectStore, dataset: DatasetManifest, split: SplitName) -> list[Example]:
    """Read a split of a dataset from the store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.jsonl"
        store.download(f"{dataset.uri}/{dataset.splits[split].file}", path)
        return list(read_split(path))
