"""Exports on this machine's disk: downloaded from their store, or found locally by SHA-256."""

import hashlib
import itertools
import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

from intent_core.datasets.provenance import ExportSource
from intent_core.errors import DataError
from tasks.settings import Settings, get_settings
from tasks.storage.layout import snapshot_digest, snapshot_key
from tasks.storage.objects import InvalidKeyError, MissingObjectError, ObjectStore
from tasks.storage.open import open_store, split_uri
from tasks.storage.step_results import get_store, work_folder

logger = logging.getLogger(__name__)

_SHOWN = 3
"""Files that the message about a folder names."""
_KEPT, _IN_USE_S = 4, 3600
"""Exports kept on this machine: the last few, and all that were used within so many seconds."""


class ExportFile(NamedTuple):
    """An export on this machine's disk."""

    path: Path
    source: ExportSource


def fetch_export(uri: str, folder: Path, *, allow_paths: bool = True) -> ExportFile:
    """Fetch an export by URI, key in the configured store, or path.

    The key of a copy in the store contains the SHA-256 of its content, so a file with that digest
    in the folder is not downloaded again. Raises `DataError` if the export does not exist, or
    `uri` is empty, a folder, or no possible key.
    """
    uri = uri.strip()
    _require_file_name(uri, allow_paths)
    try:
        return _fetch(uri, folder, allow_paths)
    except InvalidKeyError as error:
        # Not a failure of the store: a retry does not help.
        raise DataError(f"export {uri!r} cannot be in a store: {error}") from error


def _require_file_name(uri: str, allow_paths: bool) -> None:
    if not uri:
        raise DataError(
            "the export is empty: give a URI, a path, or a key in the store such as "
            "exports/music/2026-11-30.manifest"
        )
    is_here = allow_paths and Path(uri.removeprefix("file://")).is_dir()
    if uri.endswith("/") or is_here:
        raise _is_a_folder(uri, _list_folder(uri, allow_paths))


def _fetch(uri: str, folder: Path, allow_paths: bool) -> ExportFile:
    store, key = _locate(uri, allow_paths)
    digest = snapshot_digest(key)
    named_by = digest or hashlib.sha256(uri.encode()).hexdigest()[:12]
    target = folder / f"{named_by}-{Path(key).name}"
    sha256 = _hash_file(target) if digest and target.is_file() else ""
    stored = store.stat(key) if sha256 and sha256.startswith(digest) else None
    if stored:
        os.utime(target)
        logger.info("using the local copy of %s", stored.uri)
    else:
        try:
            stored = store.download(key, target)
        except MissingObjectError as error:
            if names := _list_folder(uri, allow_paths):
                raise _is_a_folder(uri, names) from error
            raise DataError(f"export {uri!r} not found: {error}") from error
        logger.info("downloaded %s: %d bytes", stored.uri, stored.size)
        sha256 = _hash_file(target)
    return ExportFile(
        target,
        ExportSource(uri=stored.uri, sha256=sha256, etag=stored.etag, version=stored.version),
    )


def copy_to_store(settings: Settings, export: ExportFile) -> str:
    """Copy an export to a key of its content and return the key.

    The local file is kept for the run that will read the copy.
    """
    name = export.source.uri.rpartition("/")[2]
    key = snapshot_key(export.source.sha256, name)
    store = get_store(settings)
    if store.stat(key) is None:
        store.upload(export.path, key)
    folder = work_folder(settings, "exports")
    os.replace(export.path, folder / f"{snapshot_digest(key)}-{name}")
    _forget_old(folder)
    return key


def _locate(uri: str, allow_paths: bool) -> tuple[ObjectStore, str]:
    if allow_paths and "://" not in uri and Path(uri).exists():
        uri = str(Path(uri).resolve())
    if "://" in uri or (allow_paths and Path(uri).is_absolute()):
        root, key = split_uri(uri)
        return open_store(root), key
    return get_store(get_settings()), uri


def _list_folder(uri: str, allow_paths: bool) -> list[str]:
    """Return the first files directly below a key; none for a path, which may have millions."""
    if uri.startswith(("/", "file://")) or (allow_paths and Path(uri).exists()):
        return []
    store, key = _locate(f"{uri.rstrip('/')}/export", allow_paths)
    prefix = key.removesuffix("export")
    names = (entry.key.removeprefix(prefix) for entry in store.list(prefix))
    return list(itertools.islice((name for name in names if "/" not in name), _SHOWN))


def _is_a_folder(uri: str, names: list[str]) -> DataError:
    files = ", ".join(f"{uri.rstrip('/')}/{name}" for name in names)
    return DataError(
        f"export {uri!r} is a folder: give one file in it{f', such as {files}' if files else ''}"
    )


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _forget_old(folder: Path) -> None:
    """Remove old exports; a run that needs a removed export downloads it again."""
    used = sorted(((p.stat().st_mtime, p) for p in folder.iterdir() if p.is_file()), reverse=True)
    for last_used, path in used[_KEPT:]:
        if time.time() - last_used > _IN_USE_S:
            path.unlink(missing_ok=True)
