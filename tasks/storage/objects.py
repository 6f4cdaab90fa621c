"""Object stores behind one protocol; drivers for a directory, S3 and OSS stand in `*_store.py`.

Keys are `/`-separated and never leave their store. A write is complete or absent. What is equal
has an equal etag within one store; only a directory's etag is the content's SHA-256.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict

from intent_core.errors import ConfigError, DataError, StorageError
from tasks.settings import Settings, get_settings

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
    changed: float | None = None
    """When it last changed, in epoch seconds by the store's clock; told by a listing only."""


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
    """The store at a root: `file:///srv/intent` or a path, `s3://bucket/prefix`, `oss://...`.

    How S3 and OSS are reached stands in the settings. Raises `ConfigError` for another scheme.
    """
    return _open_store(uri, get_settings())


@lru_cache(maxsize=32)
def _open_store(uri: str, settings: Settings) -> ObjectStore:
    # Here, as drivers import this module, and their clients take a while to import.
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        from tasks.storage.directory import DirectoryStore

        return DirectoryStore(_directory(uri))
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise ConfigError(f"{uri!r} names no bucket: write {scheme}://bucket/prefix")
    if scheme == "s3":
        from tasks.storage.s3.store import S3Options, S3Store

        options = S3Options(
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            addressing_style=settings.s3_addressing_style,
            signature_version=settings.s3_signature_version,
        )
        return S3Store(bucket, prefix, options)
    if scheme == "oss":
        from tasks.storage.oss.client import OssOptions
        from tasks.storage.oss.store import OssStore

        return OssStore(bucket, prefix, OssOptions(settings.oss_endpoint, settings.oss_region))
    raise ConfigError(f"{uri!r}: stores are file://, s3:// and oss://, not {scheme}://")


def split_uri(uri: str) -> tuple[str, str]:
    """(root, key) of an object or folder: the last segment is the key, the rest the root."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme != "file":
        # Keys stand as they are: they may hold `?`, `#` or `%`.
        root, _, key = rest.rpartition("/")
        if not root or not key:
            raise ConfigError(f"{uri!r} names no object: write {scheme}://bucket/key")
        return f"{scheme}://{root}", key
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
        raise ConfigError(f"{uri!r} is no directory: write file:///directory")
    path = Path(unquote(rest.removeprefix("localhost")))
    if not path.is_absolute():
        raise ConfigError(f"{uri!r} must be absolute, with three slashes: file:///directory")
    return path
