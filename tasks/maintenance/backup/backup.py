"""Write the whole state to one file: Prefect, MLflow, the store and the served model.

A backup does not contain keys and other secrets, models and caches that are fetched from the store
again, or work in progress. A bucket is only listed, not copied: protect it with bucket versioning
or replication.
"""

import datetime
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from intent_core.errors import ConfigError, StorageError
from intent_core.files import open_atomically
from tasks.maintenance.backup.archive import ArchiveWriter
from tasks.maintenance.backup.databases import SERVERS, Database, copy_database, find_database
from tasks.settings import Settings
from tasks.storage.layout import REPLACED, STAGING
from tasks.storage.objects import is_partial
from tasks.storage.open import open_store, split_uri
from tasks.storage.step_results import get_store, work_folder


def back_up(
    settings: Settings, target: str, without: Collection[str], announce: Callable[[str], None]
) -> int:
    """Write a backup to a path or a store's URI and return its size in bytes.

    All services may run meanwhile. Raises `ConfigError` for a database that is not accessible from
    here, unless `without` excludes it.
    """
    databases = _find_databases(settings, without)
    root, key = split_uri(target)
    store = open_store(root)
    if (folder := store.local_root()) is not None:
        path = folder / key
        _require_outside(settings, path)
        return _write(settings, path, databases, announce)
    with tempfile.TemporaryDirectory(dir=work_folder(settings)) as name:
        path = Path(name) / "backup.tar.gz"
        size = _write(settings, path, databases, announce)
        store.upload(path, key)
    return size


def describe_settings(settings: Settings) -> dict[str, str]:
    """Return the settings that differ from their defaults, without secrets and credentials."""
    described = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value == field.default or isinstance(value, SecretStr):
            continue
        text = json.dumps(value) if isinstance(value, list | tuple) else str(value)
        if "@" not in text:
            described[f"INTENT_{name.upper()}"] = text
    return described


def _find_databases(settings: Settings, without: Collection[str]) -> list[Database]:
    if unknown := set(without) - set(SERVERS):
        raise ConfigError(
            f"--without {min(unknown)}: unknown server; expected one of {', '.join(SERVERS)}"
        )
    databases = [find_database(settings, server) for server in SERVERS if server not in without]
    return [database for database in databases if database.path is None or database.path.exists()]


def _require_outside(settings: Settings, path: Path) -> None:
    root = get_store(settings).local_root()
    if root is not None and path.resolve().is_relative_to(root):
        raise ConfigError(f"{path} is inside the store that is backed up: choose another path")


def _write(
    settings: Settings, path: Path, databases: list[Database], announce: Callable[[str], None]
) -> int:
    try:
        with open_atomically(path, 0o600) as stream:
            about = _describe(settings, databases)
            with ArchiveWriter(stream, about) as archive:
                _fill(settings, archive, databases, announce)
            stream.flush()
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise StorageError(f"could not write the backup {path}: {error.strerror}") from error
    return size


def _describe(settings: Settings, databases: list[Database]) -> dict[str, Any]:
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "databases": {database.server: database.member for database in databases},
        "store": settings.store_uri,
        "has_store": get_store(settings).local_root() is not None,
        "settings": describe_settings(settings),
    }


def _fill(
    settings: Settings,
    archive: ArchiveWriter,
    databases: list[Database],
    announce: Callable[[str], None],
) -> None:
    """Add all parts: first those that refer to others, as their targets are only ever added to."""
    layout = settings.layout
    if layout.serving_state.exists():
        archive.add(layout.serving_state, "serving.json")
    with tempfile.TemporaryDirectory(dir=work_folder(settings)) as folder:
        for database in databases:
            copy = Path(folder) / f"{database.server}.copy"
            copy_database(database, copy)
            archive.add(copy, database.member)
            announce(f"{database.server}: {copy.stat().st_size / 1e6:.1f} MB")
            copy.unlink()
    if any(database.server == "prefect" for database in databases):
        # Their names show after a restore which runs are dead.
        for path in sorted(layout.runs.glob("*")):
            archive.add_bytes(b"", f"runs/{path.name}")
    if any(database.server == "mlflow" and database.path for database in databases):
        _add_folder(archive, layout.mlflow_artifacts, "mlflow/artifacts")
        _add_users(settings, archive)
    _add_store(settings, archive, announce)


def _add_users(settings: Settings, archive: ArchiveWriter) -> None:
    """Add the users of MLflow's login, whose passwords are hashed in the database."""
    users = Database("mlflow", settings.layout.mlflow_users)
    if settings.layout.mlflow_users.exists():
        with tempfile.TemporaryDirectory(dir=work_folder(settings)) as folder:
            copy = Path(folder) / "users.copy"
            copy_database(users, copy)
            archive.add(copy, f"mlflow/{settings.layout.mlflow_users.name}")


def _add_store(settings: Settings, archive: ArchiveWriter, announce: Callable[[str], None]) -> None:
    store = get_store(settings)
    if (root := store.local_root()) is not None:
        count = _add_folder(archive, root, "store")
        announce(f"store: {count} files of {settings.store_uri}")
        return
    listed = [file._asdict() for file in store.scan("")]
    archive.add_bytes(json.dumps(listed, indent=0).encode(), "store-list.json")
    announce(
        f"store: {settings.store_uri} was listed ({len(listed)} objects), not copied: protect it "
        "with bucket versioning or replication"
    )


def _add_folder(archive: ArchiveWriter, folder: Path, name: str) -> int:
    count = 0
    for path in _walk(folder):
        try:
            archive.add(path, f"{name}/{path.relative_to(folder).as_posix()}")
        except FileNotFoundError:
            continue  # deleted since it was listed
        count += 1
    return count


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((STAGING, REPLACED)))
        for name in sorted(names):
            path = Path(parent, name)
            if not is_partial(name) and path.is_file() and not path.is_symlink():
                yield path
