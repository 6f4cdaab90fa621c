"""Remove leftovers of killed uploads: unfinished parts, folders without their manifest."""

import itertools
import math
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from intent_core.errors import IntentError
from tasks.maintenance.checks import Diagnosis, Examination, report_note, report_problem
from tasks.maintenance.cleanup import remove_path
from tasks.storage.layout import AREAS
from tasks.storage.lifecycle import Lifecycle
from tasks.storage.objects import ObjectStore, ScannedObject, UnfinishedUpload
from tasks.storage.step_results import MANIFEST, get_store
from tasks.storage.transfers import FETCHING, REMOVED, file_errors

# Working folders of processes that build a folder and then rename it to its place.
_SCRATCH = (f"{FETCHING}-*", ".placing-*", f"{REMOVED}-*")


def check_uploads(examination: Examination) -> Iterator[Diagnosis]:
    """Abort old unfinished uploads in a directory; check that a bucket's lifecycle rules do."""
    store = get_store(examination.settings)
    prefixes = [area.prefix for area in AREAS if area.aborts_uploads]
    try:
        if (root := store.local_root()) is not None:
            uploads = [upload for prefix in prefixes for upload in store.list_unfinished(prefix)]
            for upload in uploads:
                if _is_old(examination, upload.started_at):
                    yield examination.repair(
                        "uploads",
                        f"an upload of {upload.key} was started {_age(upload.started_at)} ago and "
                        "never completed",
                        "aborted",
                        partial(_delete_file, root / upload.key),
                    )
        if (lifecycle := store.lifecycle()) is not None:
            yield from _check_lifecycle(examination, lifecycle, prefixes)
    except IntentError as error:
        yield report_problem("uploads", f"not checked: {error}", _PERMISSION)


_PERMISSION = (
    "grant the store's credentials s3:GetLifecycleConfiguration, and for --set-lifecycle "
    "s3:PutLifecycleConfiguration (OSS: oss:GetBucketLifecycle, oss:PutBucketLifecycle)"
)


def _check_lifecycle(
    examination: Examination, lifecycle: Lifecycle, prefixes: list[str]
) -> Iterator[Diagnosis]:
    days = max(1, math.ceil(examination.settings.left_after_hours / 24))
    rules = lifecycle.list_rules()
    if rules is None:
        yield report_note(
            "uploads",
            "the store's server does not support lifecycle rules: unfinished uploads stay",
            "regularly abort uploads older than a day with the server's own tools",
        )
        return
    missing = [
        prefix
        for prefix in prefixes
        if not any(
            prefix.startswith(rule.prefix) and (rule.days == days or not rule.is_ours)
            for rule in rules
        )
    ]
    what = (
        f"no lifecycle rule of the bucket aborts unfinished uploads after {days} day(s) below "
        f"{', '.join(missing)}"
    )
    if missing and examination.set_lifecycle:
        yield examination.repair(
            "uploads",
            what,
            "rules added; run `intent doctor` again to see whether the server kept them",
            partial(lifecycle.set_rules, missing, days),
        )
    elif missing:
        yield report_problem(
            "uploads",
            what,
            "run `intent doctor --set-lifecycle` to add the rules; other rules are kept",
        )


def check_half_folders(examination: Examination) -> Iterator[Diagnosis]:
    """Delete content-named folders without a manifest that no process writes to any more."""
    store = get_store(examination.settings)
    try:
        for folder, objects in _folders(store):
            if any(file.key == f"{folder}/{MANIFEST}" for file in objects):
                continue
            pending = store.list_unfinished(f"{folder}/")
            if not _is_abandoned(examination, objects, pending):
                continue
            size = sum(file.size for file in objects)
            yield examination.repair(
                "half-written",
                f"{folder} contains {len(objects)} file(s), {size} bytes, but no {MANIFEST}: its "
                "upload was interrupted",
                "deleted; the step that needs it will upload it again",
                partial(_delete_all, store, objects),
            )
    except IntentError as error:
        yield report_problem("half-written", f"not checked: {error}", "check the store")


def check_scratch(examination: Examination) -> Iterator[Diagnosis]:
    """Delete old working folders on this machine."""
    layout = examination.settings.layout
    places = (layout.models, layout.adapters, layout.base_models)
    for place, pattern in itertools.product(places, _SCRATCH):
        for path in sorted(place.glob(pattern)):
            if _is_old(examination, path.stat().st_mtime):
                yield examination.repair(
                    "half-written",
                    f"{path} is an incomplete working folder of a killed process",
                    "deleted",
                    partial(remove_path, path),
                )


def _folders(store: ObjectStore) -> Iterator[tuple[str, list[ScannedObject]]]:
    """Yield the folders that must contain a manifest, with their objects."""
    for area in (area for area in AREAS if area.closed):
        by_name = itertools.groupby(
            store.scan(area.prefix), key=lambda file: file.key.split("/")[1]
        )
        for name, objects in by_name:
            if re.fullmatch(area.closed, name):
                yield area.key(name), list(objects)


def _is_abandoned(
    examination: Examination, objects: list[ScannedObject], pending: Sequence[UnfinishedUpload]
) -> bool:
    times = [file.changed for file in objects] + [upload.started_at for upload in pending]
    return all(_is_old(examination, at) for at in times)


def _is_old(examination: Examination, at: float) -> bool:
    return time.time() - at > examination.settings.left_after_hours * 3600


def _age(at: float) -> str:
    return f"{(time.time() - at) / 3600:.0f} h"


def _delete_all(store: ObjectStore, objects: list[ScannedObject]) -> None:
    for file in objects:
        store.delete(file.key)


def _delete_file(path: Path) -> None:
    with file_errors("delete", path.as_uri()):
        path.unlink(missing_ok=True)
