"""Opening a store by its URI: `file:///srv/intent` or a path, `s3://bucket/prefix`, `oss://...`."""

import importlib
from functools import lru_cache

from intent_core.errors import ConfigError
from tasks.settings import Settings, get_settings
from tasks.storage.directory import parse_path
from tasks.storage.objects import ObjectStore

DRIVERS = {
    "file": "tasks.storage.directory",
    "s3": "tasks.storage.s3.store",
    "oss": "tasks.storage.oss.store",
}
"""Modules with `open_store(uri, settings)`, by the URI's scheme. Each is imported when a store of
its scheme is opened: boto3 and oss2 take long to import, and each is needed for one scheme only."""


def open_store(uri: str) -> ObjectStore:
    """The store at a root. Raises `ConfigError` for a scheme without a driver."""
    return _open_store(uri, get_settings())


@lru_cache(maxsize=32)
def _open_store(uri: str, settings: Settings) -> ObjectStore:
    scheme = scheme_of(uri)
    if scheme not in DRIVERS:
        *names, last = (f"{name}://" for name in DRIVERS)
        raise ConfigError(f"{uri!r}: stores are {', '.join(names)} and {last}, not {scheme}://")
    store: ObjectStore = importlib.import_module(DRIVERS[scheme]).open_store(uri, settings)
    return store


def split_uri(uri: str) -> tuple[str, str]:
    """(root, key) of an object or folder: the last segment is the key, the rest the root."""
    scheme = scheme_of(uri)
    if scheme == "file":
        path = parse_path(uri)
        if not path.name:
            raise ConfigError(f"{uri!r} names no object: write file:///directory/key")
        return path.parent.as_uri(), path.name
    # Keys stand as they are: they may hold `?`, `#` or `%`.
    root, _, key = uri.removeprefix(f"{scheme}://").rpartition("/")
    if not root or not key:
        raise ConfigError(f"{uri!r} names no object: write {scheme}://bucket/key")
    return f"{scheme}://{root}", key


def is_in_bucket(uri: str) -> bool:
    """Whether a URI names a place in a bucket, not a path of this machine."""
    return scheme_of(uri) != "file"


def scheme_of(uri: str) -> str:
    """`file` for a path."""
    scheme, separator, _ = uri.partition("://")
    return scheme if separator else "file"
