"""A store for tests that refuses to write a key outside the store's layout."""

from pathlib import Path
from typing import Any

from tasks.storage import step_results
from tasks.storage.layout import find_area
from tasks.storage.objects import ObjectStore, StoredObject
from tasks.storage.open import open_store


class GuardedStore:
    """Wraps any store. Reads are not checked, because exports may have any key."""

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
    """From now on, guard every pipeline store that this process opens."""
    step_results.open_store = lambda uri: GuardedStore(open_store(uri))  # type: ignore[attr-defined]
