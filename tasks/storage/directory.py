"""A store that is a directory of this machine, or of a file server that several share."""

import contextlib
import difflib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from intent_core.errors import StorageError
from intent_core.files import write_atomically
from tasks.storage.objects import MissingObjectError, StoredObject, check_key, is_partial
from tasks.storage.transfers import copy, file_errors, transfer

MOST_COMPARED = 1000


class DirectoryStore:
    """Objects as files below one directory, which the first write creates."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose key starts with the prefix, in key order."""
        for key in self._keys(prefix):
            found = self.stat(key)
            if found is not None:
                with contextlib.suppress(FileNotFoundError):
                    changed = os.stat(self.root / key).st_mtime
                    yield found.model_copy(update={"changed": changed})

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
        """Write unless the key exists; of several writers one is told True."""
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
