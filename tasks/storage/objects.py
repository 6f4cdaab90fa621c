"""The protocol of object stores, its value types, and functions that work with every store.

Keys are separated by `/` and never leave their store. A write is either complete or absent. Equal
contents have equal etags within one store; only a directory's etag is the content's SHA-256.
"""

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from intent_core.errors import ConfigError, DataError, StorageError
from intent_core.files import PARTIAL
from tasks.storage.lifecycle import Lifecycle
from tasks.storage.transfers import place_folder

UNREADABLE = "cannot be read by this user"
"""Reason to skip a file or folder whose content is unknown."""

logger = logging.getLogger(__name__)

_Entry = TypeVar("_Entry")


class MissingObjectError(StorageError):
    """The store does not contain that key; the message lists similar keys."""


class InvalidKeyError(StorageError):
    """No object of the store can have that key, so a retry does not help."""


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


class SkippedName(NamedTuple):
    """A name in the store that listings skip, because it is not that of a readable object."""

    name: str
    reason: str
    """Follows "it", e.g. "has a backslash or NUL"."""


class UnfinishedUpload(NamedTuple):
    """A write that was started and not finished. It uses space but is not in any listing."""

    key: str
    started_at: float
    """Epoch seconds, by the store's clock."""


class ObjectStore(Protocol):
    """The operations that the pipeline needs from a store.

    Listings skip names that are not those of readable objects, and log each of them once.
    """

    def list(self, prefix: str = "") -> Iterator[StoredObject]: ...
    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        """List the objects whose key starts with the prefix, in key order, without reading them."""
        ...

    def list_skipped(self, prefix: str) -> tuple[SkippedName, ...]:
        """List the names with that prefix that `list` and `scan` skip."""
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
    def describe_overwriting(self) -> str:
        """Return why `put_if_absent` would overwrite an object; "" if it would not."""
        ...

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
    store: ObjectStore,
    prefix: str,
    target: Path,
    *,
    last: str = "manifest.json",
    check: Callable[[Path], None] = lambda folder: None,
) -> tuple[StoredObject, ...]:
    """Download a folder that `upload_folder` uploaded; a complete folder at `target` is kept.

    The files are downloaded to a temporary folder next to the target, which is renamed to it after
    `check` has accepted the content. Raises `MissingObjectError` if the folder does not contain
    `last`, and whatever `check` raises.
    """
    folder = _join(prefix, "")
    end = store.stat(folder + last)
    if end is None:
        raise MissingObjectError(f"{prefix!r} is missing or incomplete: {last} not found")
    for name, reason in store.list_skipped(folder):
        raise InvalidKeyError(
            f"{prefix!r} is incomplete without the invalid key {name!r}: it {reason}"
        )
    names = [o.key.removeprefix(folder) for o in store.list(folder) if o.key != end.key]
    for name in names:
        check_key(name)
    with place_folder(target, last) as partial:
        stored = tuple(store.download(folder + name, partial / name) for name in [*names, last])
        check(partial)
    return stored


def check_key(key: str) -> None:
    """Raise `InvalidKeyError` for a key that is unsafe as a path below a folder."""
    fault = find_fault(key)
    if not fault and is_partial(PurePosixPath(key).name):
        fault = "has a name reserved for unfinished writes"
    if fault:
        raise InvalidKeyError(f"invalid key {key!r}: it {fault}")


def find_fault(key: str) -> str:
    """Return why a key is unsafe as a path below a folder, e.g. "is empty"; "" if it is safe."""
    faults = {
        "is empty": not key,
        "is absolute": key.startswith("/"),
        "has a backslash or NUL": "\\" in key or "\0" in key,
        "has an empty, '.' or '..' segment": bool({"", ".", ".."} & set(key.split("/"))),
        "is not valid Unicode": any("\ud800" <= character <= "\udfff" for character in key),
    }
    return next((fault for fault, present in faults.items() if present), "")


def require_readable(store: ObjectStore, prefix: str) -> None:
    """Raise `StorageError` if a listing skips something whose content is unknown."""
    for name, reason in store.list_skipped(prefix):
        if reason == UNREADABLE:
            raise StorageError(f"{name!r} in the store {reason}: change its permissions")


def is_object(key: str) -> bool:
    """Return False for a folder marker, which consoles create, and for an unfinished write."""
    return not key.endswith("/") and not is_partial(PurePosixPath(key).name)


def list_invalid(entries: Iterable[tuple[str, Any]]) -> tuple[SkippedName, ...]:
    """Return the entries of a bucket's listing whose keys are invalid."""
    faults = ((key, find_fault(key)) for key, _ in entries)
    return tuple(SkippedName(key, fault) for key, fault in faults if fault)


def skip_invalid(
    entries: Iterable[tuple[str, _Entry]], uri: str, logged: set[SkippedName]
) -> Iterator[tuple[str, _Entry]]:
    """Yield the entries of a bucket's listing whose keys are valid; log the others once."""
    for key, entry in entries:
        if fault := find_fault(key):
            log_skipped(uri, SkippedName(key, fault), logged)
        else:
            yield key, entry


def log_skipped(uri: str, skipped: SkippedName, logged: set[SkippedName]) -> None:
    """Log a skipped name unless `logged` contains it already."""
    if skipped not in logged:
        logged.add(skipped)
        logger.warning(
            "skipped %r in %s: it %s. `intent doctor` lists all skipped names",
            *(skipped.name, uri, skipped.reason),
        )


def describe_missing(uri: str, key: str, listings: Iterable[Sequence[str]]) -> str:
    """Return the message for a missing object, with similar keys from the first useful listing."""
    nearest: list[str] = []
    for keys in listings:
        if nearest := difflib.get_close_matches(key, keys, n=3, cutoff=0.3):
            break
    hint = f"similar keys: {', '.join(map(repr, nearest))}" if nearest else "no similar keys"
    return f"object {uri} not found; {hint}"


def is_partial(name: str) -> bool:
    """Return whether the file name is that of an unfinished write."""
    return name.startswith(".") and name.endswith(PARTIAL)


def _join(prefix: str, name: str) -> str:
    prefix = prefix.rstrip("/")
    return f"{prefix}/{name}" if prefix else name
