"""The pipeline's store, for tests: it refuses to write a key that its layout does not have."""

from pathlib import Path
from typing import Any

from tasks.storage import step_results
from tasks.storage.layout import find_area
from tasks.storage.objects import ObjectStore, StoredObject
from tasks.storage.open import open_store


class GuardedStore:
    """A store of any kind. Reading is free: exports may have any key that a project names."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def upload(self, source: Path, key: str) -> StoredObject:
        require_area(key)
        return self.store.upload(source, key)

    def put(self, key: str, data: bytes) -> StoredObject:
        require_area(key)
        return self.store.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        require_area(key)
        return self.store.put_if_absent(key, data)


def require_area(key: str) -> None:
    assert find_area(key) is not None, f"{key!r} is not in tasks/storage/layout.py"


def guard_stores() -> None:
    """Every store that this process opens as the pipeline's is guarded from now on."""
    step_results.open_store = lambda uri: GuardedStore(open_store(uri))  # type: ignore[attr-defined]
