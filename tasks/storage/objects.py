"""The protocol of object stores, its value types, and functions that work with every store.

Keys are separated by `/` and never leave their store. A write is either complete or absent. Equal
contents have equal etags within one store; only a directory's etag is the content's SHA-256.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from intent_core.errors import ConfigError, DataError, StorageError
from intent_core.files import PARTIAL
from tasks.storage.lifecycle import Lifecycle


class MissingObjectError(StorageError):
    """The store does not contain that key; the message lists similar keys."""


class StoredObject(BaseModel):
    """A small reference to bytes in a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    key: str
    size: int
    etag: str
    version: str | None = None
    """The store's version id of these bytes, if the store keeps versions."""
    changed: float | None = None
    """Time of the last change, in epoch seconds by the store's clock; set only by `list`."""


class ScannedObject(NamedTuple):
    """An object found by a scan, which does not read its content."""

    key: str
    size: int
    changed: float
    """Epoch seconds, by the store's clock."""


class UnfinishedUpload(NamedTuple):
    """A write that was started and not finished. It uses space but is not in any listing."""

    key: str
    started_at: float
    """Epoch seconds, by the store's clock."""


class ObjectStore(Protocol):
    """The operations that the pipeline needs from a store."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]: ...
    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        """List the objects whose key starts with the prefix, in key order, without reading them."""
        ...

    def list_unfinished(self, prefix: str) -> tuple[UnfinishedUpload, ...]: ...
    def local_root(self) -> Path | None:
        """Return the directory that contains the objects as files; None for a remote store."""
        ...

    def lifecycle(self) -> Lifecycle | None:
        """Return the bucket's lifecycle rules; None for a directory store."""
        ...

    def can_be_named(self) -> bool:
        """Return whether another program can read an object by its URI."""
        ...

    def stat(self, key: str) -> StoredObject | None: ...
    def download(self, key: str, target: Path) -> StoredObject: ...
    def upload(self, source: Path, key: str) -> StoredObject: ...
    def read(self, key: str) -> bytes: ...
    def put(self, key: str, data: bytes) -> StoredObject: ...
    def put_if_absent(self, key: str, data: bytes) -> bool: ...
    def delete(self, key: str) -> None: ...


def check_root(scheme: str, bucket: str, prefix: str) -> str:
    """Return the prefix of a store's keys within its bucket: empty or ending with a slash."""
    if not bucket:
        raise ConfigError(
            f"{scheme}://{bucket}/{prefix} has no bucket name; expected {scheme}://bucket/prefix"
        )
    root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    try:
        check_key(f"{root}key")
    except StorageError as error:
        raise ConfigError(f"invalid store {scheme}://{bucket}/{prefix}: {error}") from error
    return root


def upload_folder(
    store: ObjectStore, folder: Path, prefix: str, *, last: str = "manifest.json"
) -> tuple[StoredObject, ...]:
    """Upload every file of a folder, `last` at the end: its presence marks the rest complete."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    if last not in names:
        raise DataError(f"{folder} does not contain {last}, which marks a folder as complete")
    ordered = [name for name in names if name != last] + [last]
    return tuple(store.upload(folder / name, _join(prefix, name)) for name in ordered)


def download_folder(
    store: ObjectStore, prefix: str, target: Path, *, last: str = "manifest.json"
) -> tuple[StoredObject, ...]:
    """Download a folder that `upload_folder` uploaded, `last` at the end.

    Raises `MissingObjectError` if the folder does not contain `last`.
    """
    folder = _join(prefix, "")
    end = store.stat(folder + last)
    if end is None:
        raise MissingObjectError(f"{prefix!r} is missing or incomplete: {last} not found")
    names = [o.key.removeprefix(folder) for o in store.list(folder) if o.key != end.key]
    for name in names:
        check_key(name)
    return tuple(store.download(folder + name, target / name) for name in [*names, last])


def check_key(key: str) -> None:
    """Raise `StorageError` for a key that is unsafe as a path below a folder."""
    faults = {
        "is empty": not key,
        "is absolute": key.startswith("/"),
        "has a backslash or NUL": "\\" in key or "\0" in key,
        "has an empty, '.' or '..' segment": bool({"", ".", ".."} & set(key.split("/"))),
        "has a name reserved for unfinished writes": is_partial(PurePosixPath(key).name),
    }
    for fault in (name for name, present in faults.items() if present):
        raise StorageError(f"invalid key {key!r}: it {fault}")


def describe_missing(uri: str, key: str, listings: Iterable[Sequence[str]]) -> str:
    """Return the message for a missing object, with similar keys from the first useful listing."""
    nearest: list[str] = []
    for keys in listings:
        nearest = nearest or difflib.get_close_matches(key, keys, n=3, cutoff=0.3)
    hint = f"similar keys: {', '.join(map(repr, nearest))}" if nearest else "no similar keys"
    return f"object {uri} not found; {hint}"


def is_partial(name: str) -> bool:
    """Return whether the file name is that of an unfinished write."""
    return name.startswith(".") and name.endswith(PARTIAL)


def _join(prefix: str, name: str) -> str:
    prefix = prefix.rstrip("/")
    return f"{prefix}/{name}" if prefix else name
