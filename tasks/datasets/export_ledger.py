"""What became of each export: seen, and taken into a run; kept in the store.

An entry is written after what it tells, so a crash between the two only means that the step is
done again, and each step is one that may be: a run is created under a key of its content.
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
    """When this content was first seen, in epoch seconds."""
    sha256: str = ""
    """The content, once it was taken."""


class Taking(BaseModel):
    """An export's content that a run was started with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str
    source: str
    snapshot: str
    sha256: str
    run_id: str


class TaskExport(BaseModel):
    """The export of a labelling task that is finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    job_id: str
    run_id: str = ""
    """The run it was taken into, once it was."""


def see(store: ObjectStore, project: str, export: StoredObject) -> Sighting:
    """Note an export as it is now; give since when it has been so."""
    key = sighting_key(project, export.key)
    before = _read(store, key, Sighting)
    if before and (before.etag, before.size) == (export.etag, export.size):
        return before
    seen = Sighting(key=export.key, etag=export.etag, size=export.size, since=time.time())
    store.put(key, seen.model_dump_json().encode())
    return seen


def find_taking(store: ObjectStore, project: str, sha256: str) -> Taking | None:
    """The run that took this content, if one has."""
    return _read(store, taking_key(project, sha256), Taking)


def list_takings(store: ObjectStore) -> Iterator[Taking]:
    """Those of every project."""
    for key in [entry.key for entry in store.scan(LEDGER.prefix)]:
        if is_taking(key):
            yield Taking.model_validate_json(store.read(key))


def note_taking(store: ObjectStore, taking: Taking, seen: Sighting | None) -> None:
    """Keep that a run was started; the first to say so stands."""
    key = taking_key(taking.project, taking.sha256)
    store.put_if_absent(key, taking.model_dump_json().encode())
    if seen:
        known = seen.model_copy(update={"sha256": taking.sha256})
        store.put(sighting_key(taking.project, seen.key), known.model_dump_json().encode())


def find_task_export(store: ObjectStore, project: str, task: str) -> TaskExport | None:
    """The export of this task's present end, if one was started."""
    return _read(store, task_export_key(project, task), TaskExport)


def claim_task_export(store: ObjectStore, project: str, export: TaskExport) -> TaskExport:
    """Keep an export that was started; of several watchers' the first one stands."""
    store.put_if_absent(task_export_key(project, export.task), export.model_dump_json().encode())
    return find_task_export(store, project, export.task) or export


def note_task_export(store: ObjectStore, project: str, export: TaskExport) -> None:
    """Keep what became of an export."""
    store.put(task_export_key(project, export.task), export.model_dump_json().encode())


def forget_task_export(store: ObjectStore, project: str, task: str) -> None:
    """The task goes on, or its export failed: its next end is exported anew."""
    store.delete(task_export_key(project, task))


def _read(store: ObjectStore, key: str, kind: type[ValueT]) -> ValueT | None:
    try:
        return kind.model_validate_json(store.read(key))
    except (MissingObjectError, ValidationError):
        # What another version wrote is seen anew; runs are created once all the same.
        return None
