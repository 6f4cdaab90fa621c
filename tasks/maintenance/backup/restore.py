"""A backup brought back: all of it, or nothing.

    1. the archive is read to its end and compared with its digests
    2. its files are extracted beside their places, into `.restoring`
    3. a file `ready` says that all is there: from here on it is only moved
    4. each part moves to its place; what was there goes to `replaced-...` beside it, never away

Killed before 3, nothing has changed; after it, the next `intent up`, `serve`, `doctor` or `restore`
goes on.
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
from tasks.storage.layout import STAGING
from tasks.storage.open import open_store, split_uri
from tasks.storage.step_results import get_store, work_folder
from tasks.system.processes import list_processes

_READY = "ready.json"


class PendingRestore(BaseModel):
    """A restore that has all it needs and is to be ended, by whoever comes next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replaced: str
    """Name of the folder for what was there before."""
    dumps: dict[Literal["prefect", "mlflow"], str]


def restore(
    settings: Settings, source: str, *, replace: bool, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Bring a backup's state into this home and store; returns what the backup says of itself.

    Raises `DataError` for one that is damaged, `ConfigError` where there is something already
    and `replace` was not said, or where something runs.
    """
    _require_still(settings)
    with file_lock(settings.layout.restore_lock):
        _finish(settings)
        with tempfile.TemporaryDirectory(dir=work_folder(settings)) as folder:
            path = _fetch(source, Path(folder))
            manifest = verify_archive(path)
            announce(f"{len(manifest.files)} files are as they were written")
            _require_place(settings, manifest, replace=replace)
            _stage(settings, path, manifest)
        _finish(settings)
    return manifest.about


def is_pending(settings: Settings) -> bool:
    """Was a restore cut off while it moved its files?"""
    return (settings.layout.restoring / _READY).exists()


def finish_restore(settings: Settings) -> bool:
    """End a restore that was cut off; what has not begun to move is forgotten.

    Waits for one that is under way.
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
        raise DataError(f"{staging / _READY} cannot be read: remove {staging}") from error
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


def _require_still(settings: Settings) -> None:
    running = [record.name for record in list_processes(settings.layout.processes)]
    if running:
        raise ConfigError(f"{', '.join(running)} run(s) here: `intent down` first")
    if has_live_run(settings):
        raise ConfigError("a run is under way here: wait for it or stop it first")


def _fetch(source: str, folder: Path) -> Path:
    root, key = split_uri(source)
    store = open_store(root)
    if (directory := store.local_root()) is not None:
        return directory / key
    path = folder / "backup.tar.gz"
    store.download(key, path)
    return path


def _require_place(settings: Settings, manifest: ArchiveManifest, *, replace: bool) -> None:
    """Room for it, a database for each dump, and nothing in its way."""
    needed = sum(entry.size for entry in manifest.files.values())
    free = shutil.disk_usage(settings.home).free
    if free < needed:
        raise StorageError(
            f"{settings.home} has {free / 1e9:.1f} GB free, and the backup holds "
            f"{needed / 1e9:.1f} GB: free some, or set INTENT_HOME to a larger disk"
        )
    there = []
    for server, member in manifest.about.get("databases", {}).items():
        if server not in SERVERS:
            raise DataError(f"the backup holds a database of {server!r}, which nobody knows here")
        database = find_database(settings, server)
        if database.member != member:
            raise ConfigError(
                f"the backup's {server} is {member}, and this home's is {database.member}: a "
                "SQLite database does not go into PostgreSQL, nor the other way; use the settings "
                "it was made under"
            )
        if has_content(database):
            there.append(f"{server}'s database")
    root = get_store(settings).local_root()
    if settings.layout.serving_state.exists():
        there.append("serving.json")
    if manifest.about.get("has_store"):
        if root is None:
            raise ConfigError(
                "the backup holds a directory store, and INTENT_STORE is a bucket: unset it"
            )
        if root.is_dir() and any(path.name != STAGING for path in root.iterdir()):
            there.append(f"objects in {settings.store_uri}")
    if there and not replace:
        raise ConfigError(
            f"{settings.layout.root} is not empty: it has {', '.join(there)}; with --replace they "
            "are moved aside"
        )


def _stage(settings: Settings, path: Path, manifest: ArchiveManifest) -> None:
    """Everything beside its place, then the word that it is whole."""
    staging = settings.layout.restoring
    staging.mkdir(parents=True)
    extract_archive(path, staging, manifest)
    for folder in _store_staging(settings):
        if (staging / "store").is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Another file system, perhaps: the last step must only be a rename.
            shutil.move(staging / "store", folder)
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
    """Done again after a kill it goes on where it was."""
    if not staged.exists():
        return
    if place.exists() or place.is_symlink():
        if aside.exists():
            # What was there is aside already: this was made anew by a start in between.
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        else:
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.rename(place, aside)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged, place)


def _sync_below(folder: Path) -> None:
    """A name outlives a power cut only once its folder is on the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(Path(parent, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def _store_staging(settings: Settings) -> list[Path]:
    root = get_store(settings).local_root()
    return [root / STAGING] if root is not None else []
