"""What a step has finished: small manifests in the store, written last, read by the next step.

A manifest's key is the fingerprint of all that went into the step. Its presence means that
the step is complete, so a step that finds it has nothing to do, on whatever machine it runs.
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
    """The store the steps share."""
    return open_store(settings.store_uri)


def read_finished(store: ObjectStore, prefix: str, kind: type[ValueT]) -> ValueT | None:
    """What an earlier run left at `prefix`, or None when the step has not been finished."""
    try:
        return kind.model_validate_json(store.read(f"{prefix}/{MANIFEST}"))
    except MissingObjectError:
        return None
    except ValidationError:
        # Written by another version of this software: the step is done again.
        return None


def require_finished(store: ObjectStore, prefix: str, kind: type[ValueT]) -> ValueT:
    """The same for a step that must have been finished. Raises `StorageError` if it was not."""
    value = read_finished(store, prefix, kind)
    if value is None:
        raise StorageError(f"{prefix}/{MANIFEST} is not in the store though its step ended well")
    return value


def write_finished(store: ObjectStore, prefix: str, value: BaseModel) -> None:
    """Mark a step complete; everything it refers to must be in the store already."""
    store.put(f"{prefix}/{MANIFEST}", value.model_dump_json(indent=1).encode())


def work_folder(settings: Settings, *parts: str) -> Path:
    """A folder of this machine for what a step needs on disk."""
    folder = settings.layout.work.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_examples(store: ObjectStore, dataset: DatasetManifest, split: SplitName) -> list[Example]:
    """A split of a dataset in the store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.jsonl"
        store.download(f"{dataset.uri}/{dataset.splits[split].file}", path)
        return list(read_split(path))
