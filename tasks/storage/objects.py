"""The protocol of object stores, its values, and what works with every store.

Keys are `/`-separated and never leave their store. A write is complete or absent. What is equal
has an equal etag within one store; only a directory's etag is the content's SHA-256.
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
    """The store holds no object of that key; the message names the nearest ones."""


class StoredObject(BaseModel):
    """A small reference to bytes in a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    key: str
    size: int
    etag: str
    version: str | None = None
    """The store's own version of these bytes, where it keeps versions."""
    changed: float | None = None
    """When it last changed, in epoch seconds by the store's clock; told by a listing only."""


class ScannedObject(NamedTuple):
    """One object of a scan: its content was not read."""

    key: str
    size: int
    changed: float
    """Epoch seconds, by the store's clock."""


class UnfinishedUpload(NamedTuple):
    """A write that was started and has not ended. A listing does not show it; it takes space."""

    key: str
    started_at: float
    """Epoch seconds, by the store's clock."""


class ObjectStore(Protocol):
    """What the pipeline asks of a store."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]: ...
    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        """Objects whose key starts with the prefix, in key order; no content is read."""
        ...

    def list_unfinished(self, prefix: str) -> tuple[UnfinishedUpload, ...]: ...
    def local_root(self) -> Path | None:
        """The directory that holds the objects as files; None for a store that is elsewhere."""
        ...

    def lifecycle(self) -> Lifecycle | None:
        """The bucket's rules; None for a directory, which has none."""
        ...

    def can_be_named(self) -> bool:
        """Whether another program reads an object, given its URI."""
        ...

    def stat(self, key: str) -> StoredObject | None: ...
    def download(self, key: str, target: Path) -> StoredObject: ...
    def upload(self, source: Path, key: str) -> StoredObject: ...
    def read(self, key: str) -> bytes: ...
    def put(self, key: str, data: bytes) -> StoredObject: ...
    def put_if_absent(self, key: str, data: bytes) -> bool: ...
    def delete(self, key: str) -> None: ...


def check_root(scheme: str, bucket: str, prefix: str) -> str:
    """The prefix of a store's keys within its bucket, empty or with a slash at its end."""
    if not bucket:
        raise ConfigError(
            f"{scheme}://{bucket}/{prefix} names no bucket: write {scheme}://bucket/prefix"
        )
    root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    try:
        check_key(f"{root}key")
    except StorageError as error:
        raise ConfigError(f"the store {scheme}://{bucket}/{prefix}: {error}") from error
    return root


def upload_folder(
    store: ObjectStore, folder: Path, prefix: str, *, last: str = "manifest.json"
) -> tuple[StoredObject, ...]:
    """Upload every file; `last` goes last, since its presence means the rest is complete."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    if last not in names:
        raise DataError(f"{folder} has no {last}: without it nobody can tell it is complete")
    ordered = [name for name in names if name != last] + [last]
    return tuple(store.upload(folder / name, _join(prefix, name)) for name in ordered)


def download_folder(
    store: ObjectStore, prefix: str, target: Path, *, last: str = "manifest.json"
) -> tuple[StoredObject, ...]:
    """Download what `upload_folder` put there, `last` last; refuses a folder without it."""
    folder = _join(prefix, "")
    end = store.stat(folder + last)
    if end is None:
        raise MissingObjectError(f"{prefix!r} is absent or incomplete: it has no {last}")
    names = [o.key.removeprefix(folder) for o in store.list(folder) if o.key != end.key]
    for name in names:
        check_key(name)
    return tuple(store.download(folder + name, target / name) for name in [*names, last])


def check_key(key: str) -> None:
    """`StorageError` for a key that is unsafe as a path below a folder."""
    faults = {
        "is empty": not key,
        "is absolute": key.startswith("/"),
        "has a backslash or NUL": "\\" in key or "\0" in key,
        "has an empty, '.' or '..' segment": bool({"", ".", ".."} & set(key.split("/"))),
        "has a name kept for unfinished writes": is_partial(PurePosixPath(key).name),
    }
    for fault in (name for name, present in faults.items() if present):
        raise StorageError(f"key {key!r} is refused: it {fault}")


def describe_missing(uri: str, key: str, listings: Iterable[Sequence[str]]) -> str:
    """That there is no such object; the nearest keys of the first listing that has near ones."""
    nearest: list[str] = []
    for keys in listings:
        nearest = nearest or difflib.get_close_matches(key, keys, n=3, cutoff=0.3)
    hint = f"nearest: {', '.join(map(repr, nearest))}" if nearest else "and none of a near name"
    return f"no object {uri}; {hint}"


def is_partial(name: str) -> bool:
    """Whether a file is one that is still being written."""
    return name.startswith(".") and name.endswith(PARTIAL)


def _join(prefix: str, name: str) -> str:
    prefix = prefix.rstrip("/")
    return f"{prefix}/{name}" if prefix else name
