"""What a killed upload leaves: parts nobody completes, folders without their manifest."""

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
from tasks.storage.transfers import file_errors

# Working folders of programs that move what is whole to its place.
_SCRATCH = (".fetching-*", ".placing-*", ".forgotten-*")


def check_uploads(examination: Examination) -> Iterator[Diagnosis]:
    """Old unfinished uploads: removed in a directory; a bucket's lifecycle rules abort them."""
    store = get_store(examination.settings)
    prefixes = [area.prefix for area in AREAS if area.aborts_uploads]
    try:
        if (root := store.local_root()) is not None:
            uploads = [upload for prefix in prefixes for upload in store.list_unfinished(prefix)]
            for upload in uploads:
                if _is_old(examination, upload.started_at):
                    yield examination.repair(
                        "uploads",
                        f"an upload of {upload.key} was begun {_age(upload.started_at)} ago and "
                        "never ended",
                        "aborted",
                        partial(_delete_file, root / upload.key),
                    )
        if (lifecycle := store.lifecycle()) is not None:
            yield from _check_lifecycle(examination, lifecycle, prefixes)
    except IntentError as error:
        yield report_problem("uploads", f"uploads were not checked: {error}", _PERMISSION)


_PERMISSION = (
    "allow the store's credentials s3:GetLifecycleConfiguration, and for --set-lifecycle "
    "s3:PutLifecycleConfiguration (oss:GetBucketLifecycle, oss:PutBucketLifecycle)"
)


def _check_lifecycle(
    examination: Examination, lifecycle: Lifecycle, prefixes: list[str]
) -> Iterator[Diagnosis]:
    days = max(1, math.ceil(examination.settings.left_after_hours / 24))
    rules = lifecycle.list_rules()
    if rules is None:
        yield report_note(
            "uploads",
            "the store's server has no lifecycle rules: unfinished uploads stay",
            "abort those of more than a day by the server's own tools, now and then",
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
            "rules added; `intent doctor` says whether the server keeps them",
            partial(lifecycle.set_rules, missing, days),
        )
    elif missing:
        yield report_problem(
            "uploads", what, "`intent doctor --set-lifecycle` adds them and keeps every other rule"
        )


def check_half_folders(examination: Examination) -> Iterator[Diagnosis]:
    """Folders named by content that nobody has closed, and that nobody writes to any more."""
    store = get_store(examination.settings)
    try:
        for folder, objects in _folders(store):
            if any(file.key == f"{folder}/{MANIFEST}" for file in objects):
                continue
            pending = store.list_unfinished(f"{folder}/")
            if not _is_left(examination, objects, pending):
                continue
            size = sum(file.size for file in objects)
            yield examination.repair(
                "half-written",
                f"{folder} has {len(objects)} file(s), {size} bytes, and no {MANIFEST}: its upload "
                "was cut off",
                "removed; the step that needs it uploads it again",
                partial(_delete_all, store, objects),
            )
    except IntentError as error:
        yield report_problem(
            "half-written", f"the store was not searched: {error}", "see to the store"
        )


def check_scratch(examination: Examination) -> Iterator[Diagnosis]:
    """Half-made folders of this machine."""
    layout = examination.settings.layout
    places = (layout.models, layout.adapters, layout.base_models)
    for place, pattern in itertools.product(places, _SCRATCH):
        for path in sorted(place.glob(pattern)):
            if _is_old(examination, path.stat().st_mtime):
                yield examination.repair(
                    "half-written",
                    f"{path} was left half made",
                    "removed",
                    partial(remove_path, path),
                )


def _folders(store: ObjectStore) -> Iterator[tuple[str, list[ScannedObject]]]:
    """Those of the areas whose folders a manifest closes."""
    for area in (area for area in AREAS if area.closed):
        by_name = itertools.groupby(
            store.scan(area.prefix), key=lambda file: file.key.split("/")[1]
        )
        for name, objects in by_name:
            if re.fullmatch(area.closed, name):
                yield area.key(name), list(objects)


def _is_left(
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
