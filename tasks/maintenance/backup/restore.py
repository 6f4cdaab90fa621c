"""Restore a backup, completely or not at all.

    1. read the archive to its end and verify its digests
    2. extract its files into `.restoring`, on the same disk as their targets
    3. write `ready.json`: everything is there, and only renames remain
    4. move each part to its place; what was there is moved to `replaced-...`, never deleted

If it is killed before 3, nothing has changed; after 3, the next `intent up`, `serve`, `doctor` or
`restore` completes it.
"""

import datetime
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.errors import ConfigError, DataError, StorageError
from intent_core.files import file_lock, sync_folder, write_atomically
from tasks.maintenance.backup.archive import ArchiveManifest, extract_archive, verify_archive
from tasks.maintenance.backup.databases import SERVERS, find_database, has_content, load_dump
from tasks.orchestration.run_liveness import has_live_run
from tasks.settings import Settings
from tasks.settings.private_home import copy_modes, create_shared_folder
from tasks.storage.layout import STAGING
from tasks.storage.open import open_store, split_uri
from tasks.storage.step_results import get_store, work_folder
from tasks.system.processes import list_processes

_READY = "ready.json"


class PendingRestore(BaseModel):
    """A restore that has staged all files; any later command completes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replaced: str
    """Name of the folder that receives the replaced files."""
    dumps: dict[Literal["prefect", "mlflow"], str]


def restore(
    settings: Settings, source: str, *, replace: bool, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Restore a backup into this home and store; return the backup's description of itself.

    Raises `DataError` for a damaged backup, `ConfigError` if a service or run is active, or if the
    home or the store is not empty and `replace` is False.
    """
    _require_stopped(settings)
    with file_lock(settings.layout.restore_lock):
        _finish(settings)
        with tempfile.TemporaryDirectory(dir=work_folder(settings)) as folder:
            path = _fetch(source, Path(folder))
            manifest = verify_archive(path)
            announce(f"verified {len(manifest.files)} files")
            _require_place(settings, manifest, replace=replace)
            _stage(settings, path, manifest)
        _finish(settings)
    return manifest.about


def is_pending(settings: Settings) -> bool:
    """Whether a restore was interrupted while it moved its files."""
    return (settings.layout.restoring / _READY).exists()


def finish_restore(settings: Settings) -> bool:
    """Complete an interrupted restore that has staged all files; discard any other.

    Waits for a restore in progress. Returns whether a restore was completed.
    """
    with file_lock(settings.layout.restore_lock):
        return _finish(settings)


def _finish(settings: Settings) -> bool:
    staging = settings.layout.restoring
    if not is_pending(settings):
        for folder in (staging, *_store_staging(settings)):
            shutil.rmtree(folder, ignore_errors=True)
        return False
    try:
        pending = PendingRestore.model_validate_json((staging / _READY).read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{staging / _READY} is not valid: delete {staging} and restore again"
        ) from error
    for server, name in pending.dumps.items():
        if (dump := staging / name).exists():
            load_dump(find_database(settings, server), dump)
            dump.unlink()
    layout = settings.layout
    for place in (layout.serving_state, layout.prefect, layout.mlflow, layout.runs):
        _move(staging / place.name, place, layout.replaced(pending.replaced) / place.name)
    for folder in _store_staging(settings):
        root = folder.parent
        for part in sorted(folder.iterdir()) if folder.is_dir() else ():
            _move(part, root / part.name, root / f".{pending.replaced}" / part.name)
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(layout.root)
    (staging / _READY).unlink()
    shutil.rmtree(staging, ignore_errors=True)
    return True


def _require_stopped(settings: Settings) -> None:
    running = [record.name for record in list_processes(settings.layout.processes)]
    if running:
        raise ConfigError(f"{', '.join(running)} still running: stop with `intent down` first")
    if has_live_run(settings):
        raise ConfigError("a run is in progress on this machine: wait for it or stop it first")


def _fetch(source: str, folder: Path) -> Path:
    root, key = split_uri(source)
    store = open_store(root)
    if (directory := store.local_root()) is not None:
        return directory / key
    path = folder / "backup.tar.gz"
    store.download(key, path)
    return path


def _require_place(settings: Settings, manifest: ArchiveManifest, *, replace: bool) -> None:
    """Raise unless there is enough disk space, a database for each dump, and nothing in the way."""
    needed = sum(entry.size for entry in manifest.files.values())
    free = shutil.disk_usage(settings.home).free
    if free < needed:
        raise StorageError(
            f"{settings.home} has {free / 1e9:.1f} GB free, and the backup needs "
            f"{needed / 1e9:.1f} GB: free disk space, or set INTENT_HOME to a larger disk"
        )
    there = []
    for server, member in manifest.about.get("databases", {}).items():
        if server not in SERVERS:
            raise DataError(f"the backup contains a database of an unknown server: {server!r}")
        database = find_database(settings, server)
        if database.member != member:
            raise ConfigError(
                f"the backup contains {member} for {server}, but this home uses {database.member}: "
                "a SQLite database cannot be restored into PostgreSQL, nor the other way round. "
                "Use the settings of the backed-up home"
            )
        if has_content(database):
            there.append(f"{server}'s database")
    root = get_store(settings).local_root()
    if settings.layout.serving_state.exists():
        there.append("serving.json")
    if manifest.about.get("has_store"):
        if root is None:
            raise ConfigError(
                "the backup contains a directory store, but INTENT_STORE is a bucket: unset it"
            )
        if root.is_dir() and any(path.name != STAGING for path in root.iterdir()):
            there.append(f"objects in {settings.store_uri}")
    if there and not replace:
        raise ConfigError(
            f"{settings.layout.root} is not empty: found {', '.join(there)}. Use --replace to move "
            "the existing data aside"
        )


def _stage(settings: Settings, path: Path, manifest: ArchiveManifest) -> None:
    """Extract all files next to their targets, then write the `ready` file."""
    staging = settings.layout.restoring
    staging.mkdir(parents=True)
    extract_archive(path, staging, manifest)
    for folder in _store_staging(settings):
        if (staging / "store").is_dir():
            create_shared_folder(folder.parent, settings.home)
            # The store may be on another file system; the last step must be a rename only.
            shutil.move(staging / "store", folder)
            copy_modes(folder.parent, folder)
    dumps = {
        server: member
        for server, member in manifest.about.get("databases", {}).items()
        if member.startswith("dumps/")
    }
    now = datetime.datetime.now(datetime.UTC)
    pending = PendingRestore(replaced=f"replaced-{now:%Y%m%dT%H%M%S}", dumps=dumps)
    _sync_below(staging)
    for folder in _store_staging(settings):
        _sync_below(folder)
    write_atomically(staging / _READY, pending.model_dump_json())
    sync_folder(staging)


def _move(staged: Path, place: Path, aside: Path) -> None:
    """Move a staged part to its place, and what is there to `aside`; resumes after a kill."""
    if not staged.exists():
        return
    if place.exists() or place.is_symlink():
        if aside.exists():
            # The old data is in `aside` already; a command since the kill recreated the place.
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        else:
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.rename(place, aside)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged, place)


def _sync_below(folder: Path) -> None:
    """Flush files and folders: a file name survives a power cut only once its folder is synced."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(Path(parent, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def _store_staging(settings: Settings) -> list[Path]:
    root = get_store(settings).local_root()
    return [root / STAGING] if root is not None else []
