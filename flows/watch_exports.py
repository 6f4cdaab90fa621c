"""Exports that arrive become pipeline runs: one run for each content, however often one looks.

Watchers and events may look at the same export at once, and die between any two steps:

    1. the export is complete: its marker is there, or it has not changed for a while
    2. its content is copied to a key that names it: what comes later is another export
    3. a run is created under an idempotency key of project and content: Prefect creates one only
    4. the ledger keeps that this content was taken
    5. a run that crashed, or that met what passes, is started again: the same run goes on

Each step done again does nothing new. A project may name an iTAG task as well: it is exported when
it is finished (`watch_tasks`), and taken like any other export.
"""

import hashlib
import logging
import tempfile
import time
from pathlib import Path
from typing import Annotated

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from flows.intake.itag_tasks import export_finished_task, note_taken_task
from flows.intake.lost_runs import mark_lost, start_again
from flows.intake.projects import Project, find_project, list_projects, load_projects
from flows.parameters import OneOf
from flows.remote import submit
from intent_core.errors import DataError, IntentError
from tasks.datasets.export_ledger import Sighting, Taking, find_taking, note_taking, see
from tasks.orchestration.retries import retried_task
from tasks.orchestration.run_liveness import hold_run
from tasks.settings import Settings, get_settings
from tasks.storage.layout import snapshot_key
from tasks.storage.objects import ObjectStore, StoredObject
from tasks.storage.open import open_store, split_uri
from tasks.storage.step_results import get_store, work_folder

logger = logging.getLogger(__name__)


def list_watched() -> list[str]:
    """Any project, or all of them."""
    names = list_projects()
    return ["", *names] if names else []


@flow(
    name="watch-exports",
    flow_run_name="watch {project}",
    persist_result=False,
    on_running=[hold_run],
)
def watch_exports(project: Annotated[str, OneOf(list_watched)] = "") -> list[str]:
    """Start a run for every complete export that none has taken yet, and again what crashed.

    Args:
        project: A project of the projects file; empty: all of them.

    Returns the ids of the runs that have taken them, and of those that go on.
    """
    settings = get_settings()
    projects = load_projects(settings.projects)
    names = [project] if project else sorted(projects)
    started, faults = [], []
    for name in names:
        try:
            started += watch_project(settings, name, find_project(projects, name))
        except IntentError as error:
            # One project's trouble is not the others'.
            logger.error("%s: %s", name, error)
            faults.append(error)
    started += go_on(settings, names)
    if faults:
        raise faults[0]
    return started


@task(task_run_name="look after what crashed")
def go_on(settings: Settings, projects: list[str]) -> list[str]:
    """Runs whose process has died are started again; the ids of those that are."""
    with get_client(sync_client=True) as client:
        mark_lost(client, settings)
        return start_again(client, settings, projects)


def watch_project(settings: Settings, name: str, project: Project) -> list[str]:
    """Take what is complete; the ids of the runs."""
    store = get_store(settings)
    started = [
        take(name, project.recipe, found.key, seen).run_id
        for found in store.list(project.exports)
        if project.is_export(found.key) and (seen := find_complete(store, name, project, found))
    ]
    if project.itag_task and (uri := export_finished_task(settings, name, project)):
        taken = take(name, project.recipe, uri, None)
        note_taken_task(settings, name, project, taken.run_id)
        started.append(taken.run_id)
    return started


@flow(
    name="take-export",
    flow_run_name="{project}: {export_uri}",
    persist_result=False,
    on_running=[hold_run],
)
def take_export(project: Annotated[str, OneOf(list_projects)], export_uri: str = "") -> str:
    """Start a run for one export, at once, unless one has taken its content already.

    Args:
        project: A project of the projects file.
        export_uri: A URI or a key in the store; empty: the project's newest export.

    Returns the id of the run that took it.
    """
    settings = get_settings()
    watched = find_project(load_projects(settings.projects), project)
    export = export_uri or find_newest(get_store(settings), project, watched)
    taking = take(project, watched.recipe, export, None)
    return taking.run_id


def find_complete(
    store: ObjectStore, name: str, project: Project, found: StoredObject
) -> Sighting | None:
    """The export as it was seen, if it is complete and was not taken yet."""
    seen = see(store, name, found)
    if seen.sha256:
        return None
    if project.marker:
        return seen if store.stat(project.marker_key(found.key)) else None
    return seen if time.time() - seen.since >= 60 * project.unchanged_minutes else None


def find_newest(store: ObjectStore, name: str, project: Project) -> str:
    """The key of the export that was the last to change."""
    exports = [found for found in store.list(project.exports) if project.is_export(found.key)]
    if not exports:
        raise DataError(f"project {name!r} has no export below {project.exports!r} in the store")
    return max(exports, key=lambda found: (found.changed or 0, found.key)).key


@retried_task("take {export}")
def take(project: str, recipe: str, export: str, seen: Sighting | None) -> Taking:
    """One run for this export's content, whoever else takes it too."""
    settings = get_settings()
    store = get_store(settings)
    with tempfile.TemporaryDirectory(dir=work_folder(settings)) as folder:
        path = Path(folder) / "export"
        source = _fetch(settings, export, path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        taken = find_taking(store, project, sha256)
        if taken is None:
            name = source.rpartition("/")[2]
            snapshot = snapshot_key(sha256, name)
            if store.stat(snapshot) is None:
                store.upload(path, snapshot)
            run = _start_run(settings, project, recipe, snapshot, sha256)
            taken = Taking(
                project=project,
                source=source,
                snapshot=snapshot,
                sha256=sha256,
                run_id=str(run.id),
            )
            logger.info("%s: %s is run %s", project, source, run.id)
    note_taking(store, taken, seen)
    return taken


def _fetch(settings: Settings, export: str, path: Path) -> str:
    if "://" in export:
        root, key = split_uri(export)
        return open_store(root).download(key, path).uri
    return get_store(settings).download(export, path).uri


def _start_run(
    settings: Settings, project: str, recipe: str, snapshot: str, sha256: str
) -> FlowRun:
    return submit(
        settings.pipeline_deployment,
        parameters={"export_uri": snapshot, "recipe": recipe},
        idempotency_key=f"{project}:{sha256}",
        tags=[f"project:{project}"],
        timeout=0,
        as_subflow=False,
    )
