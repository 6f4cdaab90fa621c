"""Object stores behind one protocol; drivers for a directory, S3 and OSS stand in `*_store.py`.

Keys are `/`-separated and never leave their store. A write is complete or absent. What is equal
has an equal etag within one store; only a directory's etag is the content's SHA-256.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict

from intent_core.errors import ConfigError, DataError, StorageError

PARTIAL = ".partial"


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


class ObjectStore(Protocol):
    """What the pipeline asks of a store."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]: ...
    def stat(self, key: str) -> StoredObject | None: ...
    def download(self, key: str, target: Path) -> StoredObject: ...
    def upload(self, source: Path, key: str) -> StoredObject: ...
    def read(self, key: str) -> bytes: ...
    def put(self, key: str, data: bytes) -> StoredObject: ...
    def put_if_absent(self, key: str, data: bytes) -> bool: ...
    def delete(self, key: str) -> None: ...


def open_store(uri: str) -> ObjectStore:
    """The store at a root: `file:///srv/intent`, or a plain path."""
    # Here, as drivers import this module.
    from tasks.directory_store import DirectoryStore

    return DirectoryStore(_directory(uri))


def split_uri(uri: str) -> tuple[str, str]:
    """(root, key) of an object or folder: the last segment is the key, the rest the root."""
    path = _directory(uri)
    if not path.name:
        raise ConfigError(f"{uri!r} names no object: write file:///directory/key")
    return path.parent.as_uri(), path.name


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


def is_partial(name: str) -> bool:
    """Whether a file is one that is still being written."""
    return name.startswith(".") and name.endswith(PARTIAL)


def _join(prefix: str, name: str) -> str:
    prefix = prefix.rstrip("/")
    return f"{prefix}/{name}" if prefix else name


def _directory(uri: str) -> Path:
    scheme, separator, rest = uri.partition("://")
    if not uri:
        raise ConfigError("the store's uri is empty: write file:///directory or a path")
    if not separator:
        return Path(uri).absolute()
    if scheme != "file":
        raise ConfigError(f"{uri!r}: only file:// is supported so far, not {scheme}://")
    path = Path(unquote(rest.removeprefix("localhost")))
    if not path.is_absolute():
        raise ConfigError(f"{uri!r} must be absolute, with three slashes: file:///directory")
    return path
