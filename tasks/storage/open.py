"""Open a store by its URI: `file:///srv/intent` or a path, `s3://bucket/prefix`, `oss://...`."""

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
"""Modules with `open_store(uri, settings)`, by URI scheme. They are imported on first use, because
boto3 and oss2 are slow to import and each is needed for one scheme only."""


def open_store(uri: str) -> ObjectStore:
    """Open the store at a root URI. Raises `ConfigError` for an unsupported scheme."""
    return _open_store(uri, get_settings())


@lru_cache(maxsize=32)
def _open_store(uri: str, settings: Settings) -> ObjectStore:
    scheme = scheme_of(uri)
    if scheme not in DRIVERS:
        *names, last = (f"{name}://" for name in DRIVERS)
        raise ConfigError(
            f"{uri!r} has the unsupported scheme {scheme}://; use {', '.join(names)} or {last}"
        )
    store: ObjectStore = importlib.import_module(DRIVERS[scheme]).open_store(uri, settings)
    return store


def split_uri(uri: str) -> tuple[str, str]:
    """Split the URI of an object or folder into root and key; the key is the last segment."""
    scheme = scheme_of(uri)
    if scheme == "file":
        path = parse_path(uri)
        if not path.name:
            raise ConfigError(f"{uri!r} has no object key; expected file:///directory/key")
        return path.parent.as_uri(), path.name
    # Not parsed as a URL: keys may contain `?`, `#` or `%`.
    root, _, key = uri.removeprefix(f"{scheme}://").rpartition("/")
    if not root or not key:
        raise ConfigError(f"{uri!r} has no object key; expected {scheme}://bucket/key")
    return f"{scheme}://{root}", key


def is_in_bucket(uri: str) -> bool:
    """Return whether a URI is in a bucket, not a path on this machine."""
    return scheme_of(uri) != "file"


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI; `file` for a path."""
    scheme, separator, _ = uri.partition("://")
    return scheme if separator else "file"
