"""Ledger of exports in the store: when each was seen, and which run was started with it.

An entry is written after the action it records. A crash in between only repeats the action, and
repeating is safe: a run is created under a key of its content.
"""

import time
from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.storage.layout import LEDGER, is_taking, sighting_key, taking_key, task_export_key
from tasks.storage.objects import MissingObjectError, ObjectStore, StoredObject

ValueT = TypeVar("ValueT", bound=BaseModel)


class Sighting(BaseModel):
    """The last time an export was seen to change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    etag: str
    size: int
    since: float
    """Time when this content was first seen, in epoch seconds."""
    sha256: str = ""
    """SHA-256 of the content, once a run was started with it."""


class Taking(BaseModel):
    """The content of an export with which a run was started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str
    source: str
    snapshot: str
    sha256: str
    run_id: str


class TaskExport(BaseModel):
    """The export of a finished labelling task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    job_id: str
    run_id: str = ""
    """The run that was started with the export, if any."""


def see(store: ObjectStore, project: str, export: StoredObject) -> Sighting:
    """Record the current state of an export; return since when it has been unchanged."""
    key = sighting_key(project, export.key)
    before = _read(store, key, Sighting)
    if before and (before.etag, before.size) == (export.etag, export.size):
        return before
    seen = Sighting(key=export.key, etag=export.etag, size=export.size, since=time.time())
    store.put(key, seen.model_dump_json().encode())
    return seen


def find_taking(store: ObjectStore, project: str, sha256: str) -> Taking | None:
    """Return the run that was started with this content, or None."""
    return _read(store, taking_key(project, sha256), Taking)


def list_takings(store: ObjectStore) -> Iterator[Taking]:
    """Iterate over the takings of every project."""
    for key in [entry.key for entry in store.scan(LEDGER.prefix)]:
        if is_taking(key):
            yield Taking.model_validate_json(store.read(key))


def note_taking(store: ObjectStore, taking: Taking, seen: Sighting | None) -> None:
    """Record that a run was started; an existing record is kept."""
    key = taking_key(taking.project, taking.sha256)
    store.put_if_absent(key, taking.model_dump_json().encode())
    if seen:
        known = seen.model_copy(update={"sha256": taking.sha256})
        store.put(sighting_key(taking.project, seen.key), known.model_dump_json().encode())


def find_task_export(store: ObjectStore, project: str, task: str) -> TaskExport | None:
    """Return the export started for the current completion of this task, or None."""
    return _read(store, task_export_key(project, task), TaskExport)


def claim_task_export(store: ObjectStore, project: str, export: TaskExport) -> TaskExport:
    """Record an export that was started; return the first record if several watchers race."""
    store.put_if_absent(task_export_key(project, export.task), export.model_dump_json().encode())
    return find_task_export(store, project, export.task) or export


def note_task_export(store: ObjectStore, project: str, export: TaskExport) -> None:
    """Record the current state of an export."""
    store.put(task_export_key(project, export.task), export.model_dump_json().encode())


def forget_task_export(store: ObjectStore, project: str, task: str) -> None:
    """Delete the record of an export, so that the task is exported at its next completion.

    Called when the task was reopened or its export failed.
    """
    store.delete(task_export_key(project, task))


def _read(store: ObjectStore, key: str, kind: type[ValueT]) -> ValueT | None:
    try:
        return kind.model_validate_json(store.read(key))
    except (MissingObjectError, ValidationError):
        # An entry of another version is ignored; a run is still created only once.
        return None
