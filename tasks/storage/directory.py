"""A store in a directory on this machine or on a shared file server."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from intent_core.errors import ConfigError, StorageError
from intent_core.files import write_atomically
from tasks.settings import Settings
from tasks.storage.lifecycle import Lifecycle
from tasks.storage.objects import (
    MissingObjectError,
    ScannedObject,
    StoredObject,
    UnfinishedUpload,
    check_key,
    describe_missing,
    is_partial,
)
from tasks.storage.transfers import copy, file_errors, transfer

MOST_COMPARED = 1000


def open_store(uri: str, settings: Settings) -> "DirectoryStore":
    return DirectoryStore(parse_path(uri))


def parse_path(uri: str) -> Path:
    """Return the directory of a `file://` URI or a path; raise `ConfigError` if it is neither."""
    if not uri:
        raise ConfigError("the store's URI is empty; expected file:///directory or a path")
    if "://" not in uri:
        return Path(uri).absolute()
    path = Path(unquote(uri.removeprefix("file://").removeprefix("localhost")))
    if not path.is_absolute():
        raise ConfigError(f"{uri!r} must be absolute, with three slashes: file:///directory")
    return path


class DirectoryStore:
    """Objects as files below a directory; the first write creates the directory."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Iterate over the objects whose key starts with the prefix, in key order."""
        for key in self._keys(prefix):
            stored = self.stat(key)
            if stored is not None:
                with contextlib.suppress(FileNotFoundError):
                    changed = os.stat(self.root / key).st_mtime
                    yield stored.model_copy(update={"changed": changed})

    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        whole = (file for file in self._files(prefix) if not is_partial(Path(file[0]).name))
        return tuple(sorted(ScannedObject(key, s.st_size, s.st_mtime) for key, s in whole))

    def list_unfinished(self, prefix: str) -> tuple[UnfinishedUpload, ...]:
        return tuple(
            UnfinishedUpload(key, status.st_mtime)
            for key, status in self._files(prefix)
            if is_partial(Path(key).name)
        )

    def local_root(self) -> Path | None:
        return self.root

    def lifecycle(self) -> Lifecycle | None:
        return None

    def can_be_named(self) -> bool:
        return False

    def stat(self, key: str) -> StoredObject | None:
        path = self._path(key)
        with file_errors("read", self._uri(key)), contextlib.suppress(FileNotFoundError):
            if path.is_file():
                with path.open("rb") as stream:
                    return self._stored(key, *copy(stream, None))
        return None

    def download(self, key: str, target: Path) -> StoredObject:
        path = self._path(key)
        self._require(key, path)
        with file_errors(f"download to {target}", self._uri(key), target.parent, path):
            return self._stored(key, *transfer(path, target))

    def upload(self, source: Path, key: str) -> StoredObject:
        path = self._path(key)
        with file_errors(f"upload {source} to", self._uri(key), path.parent, source):
            return self._stored(key, *transfer(source, path))

    def read(self, key: str) -> bytes:
        path = self._path(key)
        self._require(key, path)
        with file_errors("read", self._uri(key)):
            return path.read_bytes()

    def put(self, key: str, data: bytes) -> StoredObject:
        path = self._path(key)
        with file_errors("write", self._uri(key), path.parent, len(data)):
            write_atomically(path, data)
        return self._stored(key, len(data), hashlib.sha256(data).hexdigest())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return True if this call wrote the object."""
        path = self._path(key)
        with file_errors("write", self._uri(key), path.parent, len(data)):
            return write_atomically(path, data, overwrite=False)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with file_errors("delete", self._uri(key)):
            path.unlink(missing_ok=True)

    def _uri(self, key: str) -> str:
        return (self.root / key).as_uri()

    def _stored(self, key: str, size: int, etag: str) -> StoredObject:
        return StoredObject(uri=self._uri(key), key=key, size=size, etag=etag)

    def _path(self, key: str) -> Path:
        check_key(key)
        path = self.root / key
        with file_errors("resolve", self._uri(key)):
            resolved = Path(os.path.realpath(path))
        if not resolved.is_relative_to(self.root):
            raise StorageError(f"key {key!r} leads out of {self.root.as_uri()} through a symlink")
        return path

    def _require(self, key: str, path: Path) -> None:
        if os.path.isfile(path):
            return
        listing = self._keys("")[:MOST_COMPARED]
        raise MissingObjectError(describe_missing(self._uri(key), key, [listing]))

    def _files(self, prefix: str) -> tuple[tuple[str, os.stat_result], ...]:
        """List (key, status) of the files with that prefix, including partial files."""
        files: dict[str, os.stat_result] = {}
        with file_errors("list", self._uri(prefix)):
            for folder, _, names in os.walk(self.root / prefix.rpartition("/")[0]):
                for path in (Path(folder, name) for name in names):
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix):
                        # A partial file may have been renamed, or an object deleted, meanwhile.
                        with contextlib.suppress(FileNotFoundError):
                            files[key] = path.stat()
        return tuple(files.items())

    def _keys(self, prefix: str) -> tuple[str, ...]:
        if prefix:
            check_key(prefix.removesuffix("/"))
        start = self.root / prefix.rpartition("/")[0]
        with file_errors("list", self._uri(prefix)):
            names = [
                Path(folder, name).relative_to(self.root).as_posix()
                for folder, _, files in os.walk(start, onerror=_raise_unless_absent)
                for name in files
                if not is_partial(name)
            ]
        return tuple(sorted(key for key in names if key.startswith(prefix)))


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
