"""Exports that arrive become pipeline runs: one run for each content, however often one looks.

Watchers and events may look at the same export at once, and die between any two steps:

    1. the export is complete: its marker is there, or it has not changed for a while
    2. its content is copied to a key that names it: what comes later is another export
    3. a run is created under an idempotency key of project and content: Prefect creates one only
    4. the ledger keeps that this content was taken
    5. a run that crashed, or that met what passes, is started again: the same run goes on

Each step done again does nothing new. A project may name an iTAG task as well: it is exported when
it is finished (`intake/itag_tasks`), and taken like any other export.
"""

import logging
from typing import Annotated

from prefect import flow, task
from prefect.client.orchestration import get_client

from flows.intake.itag_tasks import export_finished_task, note_taken_task
from flows.intake.lost_runs import mark_lost, start_again
from flows.intake.projects import Project, find_project, list_projects, load_projects
from flows.intake.take import find_complete, find_newest, take
from flows.parameters import OneOf
from intent_core.errors import IntentError
from tasks.orchestration.run_liveness import hold_run
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store

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
        take(name, project.recipe, export.key, seen).run_id
        for export in store.list(project.exports)
        if project.is_export(export.key) and (seen := find_complete(store, name, project, export))
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
