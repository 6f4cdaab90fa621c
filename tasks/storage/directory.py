"""A store in a directory on this machine or on a shared file server."""

import contextlib
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from intent_core.errors import ConfigError, StorageError
from intent_core.files import write_atomically
from tasks.settings import Settings
from tasks.settings.private_home import create_shared_folder
from tasks.storage.lifecycle import Lifecycle
from tasks.storage.objects import (
    UNREADABLE,
    MissingObjectError,
    ScannedObject,
    SkippedName,
    StoredObject,
    UnfinishedUpload,
    check_key,
    describe_missing,
    find_fault,
    is_partial,
    log_skipped,
)
from tasks.storage.transfers import copy, file_errors, transfer

MOST_COMPARED = 1000
_LEADS_OUT = "leads out of the store through a symlink"


def open_store(uri: str, settings: Settings) -> "DirectoryStore":
    return DirectoryStore(parse_path(uri), settings.home)


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
    """Objects as files below a directory; the first write creates the directory.

    Files and folders in it get the permissions of the directory, whatever the umask: others may
    share it.
    """

    def __init__(self, root: Path, home: Path | None = None) -> None:
        self.root = Path(os.path.realpath(root))
        self._logged = set[SkippedName]()
        self._home = home or self.root

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Iterate over the objects whose key starts with the prefix, in key order."""
        for key, _, changed in self.scan(prefix):
            stored = self.stat(key)
            if stored is not None:
                yield stored.model_copy(update={"changed": changed})

    def scan(self, prefix: str) -> tuple[ScannedObject, ...]:
        whole = (file for file in self._files(prefix) if not is_partial(Path(file[0]).name))
        return tuple(sorted(ScannedObject(key, s.st_size, s.st_mtime) for key, s in whole))

    def list_skipped(self, prefix: str) -> tuple[SkippedName, ...]:
        return tuple(
            SkippedName(key, status)
            for key, status in self._walk(prefix)
            if isinstance(status, str)
        )

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
            return self._stored(key, *transfer(source, path, self._make_parent(path)))

    def read(self, key: str) -> bytes:
        path = self._path(key)
        self._require(key, path)
        with file_errors("read", self._uri(key)):
            return path.read_bytes()

    def put(self, key: str, data: bytes) -> StoredObject:
        path = self._path(key)
        with file_errors("write", self._uri(key), path.parent, len(data)):
            write_atomically(path, data, self._make_parent(path))
        return self._stored(key, len(data), hashlib.sha256(data).hexdigest())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return True if this call wrote the object."""
        path = self._path(key)
        with file_errors("write", self._uri(key), path.parent, len(data)):
            return write_atomically(path, data, self._make_parent(path), overwrite=False)

    def describe_overwriting(self) -> str:
        return ""

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
            is_inside = self._is_inside(path)
        if not is_inside:
            raise StorageError(f"key {key!r} leads out of {self.root.as_uri()} through a symlink")
        return path

    def _make_parent(self, path: Path) -> int:
        """Create the folders of a new object and return the mode of its file."""
        create_shared_folder(self.root, self._home)
        mode = stat.S_IMODE(self.root.stat().st_mode)
        missing = [p for p in path.parents if p.is_relative_to(self.root) and not p.is_dir()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                folder.chmod(mode)
        return mode & 0o666

    def _require(self, key: str, path: Path) -> None:
        if os.path.isfile(path):
            return
        folders = (f"{key.rpartition('/')[0]}/" if "/" in key else "", "")
        listings = map(self._list_some, dict.fromkeys(folders))
        raise MissingObjectError(describe_missing(self._uri(key), key, listings))

    def _list_some(self, prefix: str) -> Sequence[str]:
        """Return at most `MOST_COMPARED` keys: a store can be a whole disk."""
        some = itertools.islice(self._walk(prefix), MOST_COMPARED)
        return sorted(key for key, status in some if not isinstance(status, str))

    def _files(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (key, status) of the files with that prefix, including partial files."""
        for key, status in self._walk(prefix):
            if isinstance(status, str):
                log_skipped(self.root.as_uri(), SkippedName(key, status), self._logged)
            else:
                yield key, status

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.stat_result | str]]:
        """Yield each name with that prefix and its status, or the reason to skip it."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        start = self.root / prefix.rpartition("/")[0]
        unreadable: list[OSError] = []
        with file_errors("list", self._uri(prefix)):
            if not self._is_inside(start):
                yield start.relative_to(self.root).as_posix(), _LEADS_OUT
                return
            for folder, folders, names in os.walk(start, onerror=unreadable.append):
                skipped = [name for name in folders if _is_skipped(folder, name)]
                for name in (*names, *skipped):
                    key = Path(folder, name).relative_to(self.root).as_posix()
                    if key.startswith(prefix) and (status := self._look(key)) is not None:
                        yield key, status
                folders[:] = [name for name in folders if name not in skipped]
            for error in unreadable:
                if key := self._require_passable(error):
                    yield key, UNREADABLE

    def _look(self, key: str) -> os.stat_result | str | None:
        """Return a file's status, or why listings skip it; None if it was deleted meanwhile."""
        path = self.root / key
        if fault := find_fault(key):
            return fault
        try:
            status = os.stat(path)
        except OSError as error:
            if os.path.islink(path):
                return "is a link that leads nowhere"
            # A partial file may have been renamed, or an object deleted, meanwhile.
            return None if isinstance(error, FileNotFoundError) else f"fails with {error.strerror}"
        if os.path.islink(path) and not self._is_inside(path):
            return _LEADS_OUT
        if not stat.S_ISREG(status.st_mode):
            return "is not a file (links to folders are not followed)"
        return status if os.access(path, os.R_OK) else UNREADABLE

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self.root)

    def _require_passable(self, error: OSError) -> str:
        """Return the name of a folder that cannot be listed; "" if it does not exist.

        Any other fault, or one of the store's own directory, makes a listing impossible.
        """
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return ""
        name = Path(error.filename).relative_to(self.root).as_posix()
        if not isinstance(error, PermissionError) or name == ".":
            raise error
        return name


def _is_skipped(folder: str, name: str) -> bool:
    """Return whether listings do not enter a folder: a link, or one with an invalid name."""
    return bool(find_fault(name)) or os.path.islink(os.path.join(folder, name))
