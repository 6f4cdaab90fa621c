"""What a killed upload leaves: parts nobody completes, folders without their manifest."""

import itertools
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from intent_core.errors import IntentError
from tasks.maintenance.checks import Diagnosis, Examination, report_problem
from tasks.storage.layout import AREAS
from tasks.storage.objects import ObjectStore, ScannedObject, UnfinishedUpload
from tasks.storage.step_results import MANIFEST, get_store

# Working folders of programs that move what is whole to its place.
_SCRATCH = (".fetching-*", ".placing-*", ".forgotten-*")


def check_uploads(examination: Examination) -> Iterator[Diagnosis]:
    """Unfinished uploads below our prefixes and older than the limit are aborted."""
    store = get_store(examination.settings)
    try:
        for area in (area for area in AREAS if area.aborts_uploads):
            for one in store.list_unfinished(area.prefix):
                if _is_old(examination, one.started_at):
                    yield examination.repair(
                        "uploads",
                        f"an upload of {one.key} was begun {_age(one.started_at)} ago and "
                        "never ended",
                        "aborted",
                        partial(store.abort, one),
                    )
    except IntentError as error:
        yield report_problem("uploads", f"unfinished uploads were not listed: {error}", _PERMISSION)


_PERMISSION = (
    "allow the store's credentials s3:ListBucketMultipartUploads and s3:AbortMultipartUpload "
    "(oss:ListMultipartUploads, oss:AbortMultipartUpload)"
)


def check_half_folders(examination: Examination) -> Iterator[Diagnosis]:
    """Folders named by content that nobody has closed, and that nobody writes to any more."""
    store = get_store(examination.settings)
    try:
        for folder, objects in _folders(store):
            if any(one.key == f"{folder}/{MANIFEST}" for one in objects):
                continue
            pending = store.list_unfinished(f"{folder}/")
            if not _is_left(examination, objects, pending):
                continue
            size = sum(one.size for one in objects)
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
                    partial(_remove, path),
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
    times = [one.changed for one in objects] + [one.started_at for one in pending]
    return all(_is_old(examination, at) for at in times)


def _is_old(examination: Examination, at: float) -> bool:
    return time.time() - at > examination.settings.left_after_hours * 3600


def _age(at: float) -> str:
    return f"{(time.time() - at) / 3600:.0f} h"


def _delete_all(store: ObjectStore, objects: list[ScannedObject]) -> None:
    for one in objects:
        store.delete(one.key)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
