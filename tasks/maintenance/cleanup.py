"""`intent clean`: delete what the retention settings allow, on this machine and in the store.

A model is deleted from the store only if no gate ever accepted it; the served model and the
previous one were accepted. The record of its training is deleted first, so that a later run trains
again instead of looking for the deleted model.
"""

import datetime
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from intent_core.models.artifact import ModelArtifact
from intent_core.training.protocol import CHECKPOINTS_FOLDER
from tasks.maintenance.protected import Protected, find_served
from tasks.models.local_cache import find_forgettable, forget_model
from tasks.orchestration.run_liveness import has_live_run
from tasks.serving.state import read_state
from tasks.settings import Settings
from tasks.storage.layout import (
    MODELS,
    SNAPSHOTS,
    TRAININGS,
    Area,
    find_area,
    release_prefix,
)
from tasks.storage.objects import ObjectStore, ScannedObject
from tasks.storage.step_results import MANIFEST, get_store
from tasks.system.processes import is_in_use, list_processes
from tasks.tracking.registry import ARTIFACT_TAG, REMOVED_TAG
from tasks.tracking.runs import make_client, mlflow_errors
from tasks.training.finetune import training_lock

_DAY_S = 86_400


class Removal(NamedTuple):
    """Something to delete, its size in bytes, and the function that deletes it."""

    what: str
    size: int
    remove: Callable[[], None]


def plan_cleaning(settings: Settings, protected: Protected) -> Iterator[Removal]:
    """Yield what to delete, in order; nothing is deleted until its `remove` is called."""
    yield from plan_local(settings)
    if not protected.problem:
        yield from plan_candidates(settings, protected)
        yield from plan_checkpoints(settings)
        yield from plan_snapshots(settings, protected)


def plan_local(settings: Settings) -> Iterator[Removal]:
    """Yield this machine's models that are also in the store, abandoned work and old logs."""
    served = read_state(settings).model_names()
    for path in find_forgettable(settings, served)[1]:
        size = _removal("", path).size
        yield Removal(f"{path} (also in the store)", size, partial(forget_model, path))
    folder = settings.layout.processes
    if not has_live_run(settings):
        layout = settings.layout
        for path in sorted([*layout.trainings.glob("*"), *layout.evaluations.glob("*")]):
            if not is_in_use(folder, training_lock(path)) and _is_stale(
                path, settings.keep_work_days
            ):
                yield _removal(f"{path} (unfinished, no run uses it)", path)
        for path in sorted(layout.exports.glob("*")):
            if _is_stale(path, settings.keep_work_days):
                yield _removal(f"{path} (copy of an export)", path)
    living = {record.log for record in list_processes(folder)}
    for path in sorted(folder.glob("*.log")):
        if path not in living and _is_stale(path, settings.keep_log_days):
            yield _removal(f"{path} (log of a stopped process)", path)


def plan_candidates(settings: Settings, protected: Protected) -> Iterator[Removal]:
    """Yield the store's unneeded models that no gate has accepted."""
    days, store = settings.keep_candidate_days, get_store(settings)
    if days is None:
        return
    kept = protected.models | find_served(settings)
    trainings = _find_trainings(store)
    for name, objects in _folders(store, MODELS):
        is_ours = name.startswith("intent-") and any(o.key.endswith(MANIFEST) for o in objects)
        if not is_ours or name in kept or not _are_old(objects, days):
            continue
        if store.stat(f"{release_prefix(name)}/{MANIFEST}") is not None:
            continue
        size = sum(file.size for file in objects)
        remove = partial(_remove_model, settings, name, objects, trainings[name])
        yield Removal(f"{MODELS.key(name)} (not accepted by any gate)", size, remove)


def plan_checkpoints(settings: Settings) -> Iterator[Removal]:
    """Yield the store's old checkpoints: of trainings that never ended, or no longer need them."""
    days, store = settings.keep_checkpoint_days, get_store(settings)
    if days is None:
        return
    for name, objects in _folders(store, TRAININGS):
        checkpoints = [o for o in objects if o.key.split("/")[2] == CHECKPOINTS_FOLDER]
        if checkpoints and _are_old(checkpoints, days):
            what = f"{TRAININGS.key(name, CHECKPOINTS_FOLDER)} (no training resumes from it)"
            size = sum(o.size for o in checkpoints)
            yield Removal(what, size, partial(_delete, store, checkpoints))


def plan_snapshots(settings: Settings, protected: Protected) -> Iterator[Removal]:
    """Yield copies of exports whose runs have ended; the datasets made from them stay."""
    days, store = settings.keep_snapshot_days, get_store(settings)
    if days is None:
        return
    for name, objects in _folders(store, SNAPSHOTS):
        awaited = any(file.key in uri for file in objects for uri in protected.exports)
        if not awaited and _are_old(objects, days):
            size = sum(file.size for file in objects)
            what = f"{SNAPSHOTS.key(name)} (copy of an export)"
            yield Removal(what, size, partial(_delete, store, objects))


def _folders(store: ObjectStore, area: Area) -> Iterator[tuple[str, list[ScannedObject]]]:
    inside = (file for file in store.scan(area.prefix) if file.key.count("/") >= 2)
    for name, objects in groupby(inside, key=lambda file: file.key.split("/")[1]):
        yield name, list(objects)


def _find_trainings(store: ObjectStore) -> dict[str, list[str]]:
    """Return the manifest keys of the finished trainings of each model, by model name."""
    trainings: dict[str, list[str]] = defaultdict(list)
    for file in store.scan(TRAININGS.prefix):
        if file.key.endswith(f"/{MANIFEST}") and file.key.count("/") == 2:
            try:
                artifact = ModelArtifact.model_validate_json(store.read(file.key))
            except ValidationError:
                continue  # written by another version, whose runs cannot find this model either
            trainings[artifact.name].append(file.key)
    return trainings


def _remove_model(
    settings: Settings, name: str, objects: list[ScannedObject], trainings: list[str]
) -> None:
    """Delete the manifests first, then the files.

    A kill in between costs at most another training; `intent doctor` deletes the rest.
    """
    tag_removed(settings, name)
    store = get_store(settings)
    for key in trainings:
        store.delete(key)
    _delete(store, sorted(objects, key=lambda file: file.key != MODELS.key(name, MANIFEST)))


def tag_removed(settings: Settings, name: str) -> None:
    """Tag the model's registry versions with the time of removal; the doctor then ignores them."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with mlflow_errors(settings.mlflow_tracking_url):
        client = make_client(settings)
        for version in client.search_model_versions(f"tags.`{ARTIFACT_TAG}` = '{name}'"):
            client.set_model_version_tag(version.name, version.version, REMOVED_TAG, now)


def _delete(store: ObjectStore, objects: list[ScannedObject]) -> None:
    for key in [file.key for file in objects]:
        area = find_area(key)
        if area is None or not area.may_clean:
            raise ValueError(f"{key} must not be deleted")
        store.delete(key)


def _removal(what: str, path: Path) -> Removal:
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    return Removal(what, sum(file.stat().st_size for file in files), partial(remove_path, path))


def remove_path(path: Path) -> None:
    """Delete a file or a folder; errors inside a folder are ignored."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _are_old(objects: list[ScannedObject], days: float) -> bool:
    return all(time.time() - file.changed > days * _DAY_S for file in objects)


def _is_stale(path: Path, days: float) -> bool:
    """Whether nothing in the folder has changed for that many days."""
    times = [file.stat().st_mtime for file in (path, *path.rglob("*")) if file.exists()]
    return time.time() - max(times, default=time.time()) > days * _DAY_S
