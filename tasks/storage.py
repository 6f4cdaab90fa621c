"""Object stores behind one protocol; a directory is the one driver so far.

Keys are `/`-separated and never leave their store. A write is complete or absent: parts are
written beside their place, synced, and moved there in one step. `etag` is the content's
SHA-256, so equal etags mean equal bytes.
"""

import contextlib
import difflib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict

from intent_core.errors import ConfigError, DataError, StorageError

CHUNK = 1 << 20
PARTIAL = ".partial"
MOST_COMPARED = 1000


class MissingObjectError(StorageError):
    """The store holds no object of that key; the message names the nearest ones."""


class StoredObject(BaseModel):
    """A small reference to bytes in a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    key: str
    size: int
    etag: str


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
        _check_key(name)
    return tuple(store.download(folder + name, target / name) for name in [*names, last])


class DirectoryStore:
    """Objects as files below one directory, which the first write creates."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose key starts with the prefix, in key order."""
        for key in self._keys(prefix):
            found = self.stat(key)
            if found is not None:
                yield found

    def stat(self, key: str) -> StoredObject | None:
        path = self._path(key)
        with _translated("read", self._uri(key)), contextlib.suppress(FileNotFoundError):
            if path.is_file():
                with path.open("rb") as stream:
                    return self._stored(key, *_copy(stream, None))
        return None

    def download(self, key: str, target: Path) -> StoredObject:
        path = self._path(key)
        self._require(key, path)
        with _translated(f"download to {target}", self._uri(key), target.parent, path):
            return self._stored(key, *_transfer(path, target))

    def upload(self, source: Path, key: str) -> StoredObject:
        path = self._path(key)
        with _translated(f"upload {source} to", self._uri(key), path.parent, source):
            return self._stored(key, *_transfer(source, path))

    def read(self, key: str) -> bytes:
        path = self._path(key)
        self._require(key, path)
        with _translated("read", self._uri(key)):
            return path.read_bytes()

    def put(self, key: str, data: bytes) -> StoredObject:
        path = self._path(key)
        with _translated("write", self._uri(key), path.parent, len(data)):
            with _beside(path) as (partial, stream):
                stream.write(data)
                _sync(stream)
                partial.replace(path)
            _sync_directory(path.parent)
        return self._stored(key, len(data), hashlib.sha256(data).hexdigest())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; of several writers one is told True."""
        path = self._path(key)
        with _translated("write", self._uri(key), path.parent, len(data)):
            with _beside(path) as (partial, stream):
                stream.write(data)
                _sync(stream)
                try:
                    # A link, unlike a rename, refuses to replace what is there.
                    os.link(partial, path)
                except FileExistsError:
                    if path.is_dir():
                        raise
                    return False
            _sync_directory(path.parent)
        return True

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated("delete", self._uri(key)):
            path.unlink(missing_ok=True)

    def _uri(self, key: str) -> str:
        return (self.root / key).as_uri()

    def _stored(self, key: str, size: int, etag: str) -> StoredObject:
        return StoredObject(uri=self._uri(key), key=key, size=size, etag=etag)

    def _path(self, key: str) -> Path:
        _check_key(key)
        path = self.root / key
        with _translated("resolve", self._uri(key)):
            resolved = Path(os.path.realpath(path))
        if not resolved.is_relative_to(self.root):
            raise StorageError(f"key {key!r} leads out of {self.root.as_uri()} by a symlink")
        return path

    def _require(self, key: str, path: Path) -> None:
        if os.path.isfile(path):
            return
        nearest = difflib.get_close_matches(key, self._keys("")[:MOST_COMPARED], n=3, cutoff=0.3)
        hint = f"nearest: {', '.join(map(repr, nearest))}" if nearest else "and none of a near name"
        raise MissingObjectError(f"no object {self._uri(key)}; {hint}")

    def _keys(self, prefix: str) -> tuple[str, ...]:
        if prefix:
            _check_key(prefix.removesuffix("/"))
        start = self.root / prefix.rpartition("/")[0]
        with _translated("list", self._uri(prefix)):
            names = [
                Path(folder, name).relative_to(self.root).as_posix()
                for folder, _, files in os.walk(start, onerror=_raise_unless_absent)
                for name in files
                if not _is_partial(name)
            ]
        return tuple(sorted(key for key in names if key.startswith(prefix)))


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


def _check_key(key: str) -> None:
    faults = {
        "is empty": not key,
        "is absolute": key.startswith("/"),
        "has a backslash or NUL": "\\" in key or "\0" in key,
        "has an empty, '.' or '..' segment": bool({"", ".", ".."} & set(key.split("/"))),
        "has a name kept for unfinished writes": _is_partial(PurePosixPath(key).name),
    }
    for fault in (name for name, present in faults.items() if present):
        raise StorageError(f"key {key!r} is refused: it {fault}")


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(PARTIAL)


def _join(prefix: str, name: str) -> str:
    prefix = prefix.rstrip("/")
    return f"{prefix}/{name}" if prefix else name


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@contextlib.contextmanager
def _translated(
    action: str, uri: str, directory: Path | None = None, needed: Path | int = 0
) -> Iterator[None]:
    """The one place where an `OSError` becomes a `StorageError`."""
    try:
        yield
    except OSError as error:
        message = f"cannot {action} {uri}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and directory is not None:
            size = needed.stat().st_size if isinstance(needed, Path) else needed
            message += f"; {directory} is full and {size} bytes are needed: free space there"
        raise StorageError(message) from error


def _transfer(source: Path, target: Path) -> tuple[int, str]:
    """Copy beside the target, verify the size, and move into place."""
    with source.open("rb") as stream, _beside(target) as (partial, sink):
        size, etag = _copy(stream, sink)
        _sync(sink)
        written, expected = partial.stat().st_size, os.fstat(stream.fileno()).st_size
        if not written == size == expected:
            raise StorageError(f"{source} changed: {written} of {expected} bytes at {target}")
        partial.replace(target)
    _sync_directory(target.parent)
    return size, etag


def _copy(source: BinaryIO, sink: BinaryIO | None) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while chunk := source.read(CHUNK):
        size += len(chunk)
        digest.update(chunk)
        if sink is not None:
            sink.write(chunk)
    return size, digest.hexdigest()


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in the target's directory, gone afterwards unless it was moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{uuid.uuid4().hex}{PARTIAL}"
    try:
        with partial.open("xb") as stream:
            yield partial, stream
    finally:
        partial.unlink(missing_ok=True)


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
