"""Flows `watch-exports` and `take-export`: start one pipeline run for each new export.

An export is identified by its content. Several watchers and events may handle the same export at
the same time, and each may be killed between any two steps:

    1. Wait until the export is complete: its marker exists, or it has not changed for a while.
    2. Copy the export to a key that contains its digest; a later change makes a new export.
    3. Create a run with an idempotency key of project and content; Prefect creates it only once.
    4. Record in the ledger that this content was taken.
    5. Restart a run that crashed or failed with a temporary error; the same run resumes.

Repeating a step has no effect. A project may also name an iTAG task: once finished, the task is
exported (`flows/intake/itag_tasks.py`), and the export is taken like any other.
"""

import logging
from typing import Annotated

from prefect import flow, runtime, task
from prefect.artifacts import create_link_artifact
from prefect.client.orchestration import get_client

from flows.intake.itag_tasks import export_finished_task, note_taken_task
from flows.intake.lost_runs import mark_lost, start_again
from flows.intake.projects import Project, find_project, list_projects, load_projects
from flows.intake.take import find_complete, find_newest, take
from flows.parameters import ExportUri, OneOf
from intent_core.errors import IntentError
from intent_core.markdown import escape_markdown
from tasks.orchestration.run_hooks import explain_crash, tag_with_project
from tasks.orchestration.run_liveness import hold_run
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store

logger = logging.getLogger(__name__)


def list_watched() -> list[str]:
    """Return the names of the projects, and first an empty one, which means all of them."""
    names = list_projects()
    return ["", *names] if names else []


@flow(
    name="watch-exports",
    flow_run_name="watch {project}",
    persist_result=False,
    on_running=[hold_run],
    on_crashed=[explain_crash],
)
def watch_exports(project: Annotated[str, OneOf(list_watched)] = "") -> list[str]:
    """Start a run for every complete export without one, and restart crashed runs.

    Args:
        project: A project of the projects file; empty: all of them.

    Returns the ids of the runs that took an export or were restarted.
    """
    settings = get_settings()
    projects = load_projects(settings.projects)
    names = [project] if project else sorted(projects)
    started, faults = [], []
    for name in names:
        try:
            started += watch_project(settings, name, find_project(projects, name))
        except IntentError as error:
            # The other projects are watched anyway; the first error is raised at the end.
            logger.error("%s: %s", name, error)
            faults.append(error)
    started += restart_lost_runs(settings, names)
    if faults:
        raise faults[0]
    return started


@task(task_run_name="restart crashed runs")
def restart_lost_runs(settings: Settings, projects: list[str]) -> list[str]:
    """Restart runs whose process has died; return their ids."""
    with get_client(sync_client=True) as client:
        mark_lost(client, settings)
        return start_again(client, settings, projects)


def watch_project(settings: Settings, name: str, project: Project) -> list[str]:
    """Take the complete exports of a project; return the ids of their runs."""
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


def name_take() -> str:
    """Return the name of a run: project and export."""
    parameters = runtime.flow_run.parameters
    export = str(parameters.get("export_uri") or "").strip()
    return f"{parameters.get('project')}: {export or 'newest export'}"


@flow(
    name="take-export",
    flow_run_name=name_take,
    persist_result=False,
    on_running=[hold_run],
    on_crashed=[explain_crash],
)
def take_export(project: Annotated[str, OneOf(list_projects)], export_uri: ExportUri = "") -> str:
    """Start a run for one export immediately, unless its content was taken before.

    Args:
        project: The project to train, from the projects file.
        export_uri: Leave empty for the project's newest export; else a URI or a key in the store.

    Returns the id of the run that took the export.
    """
    settings = get_settings()
    watched = find_project(load_projects(settings.projects), project)
    tag_with_project(project)
    export = export_uri or find_newest(get_store(settings), project, watched)
    taking = take(project, watched.recipe, export, None)
    create_link_artifact(
        f"{settings.prefect_ui_url}/runs/flow-run/{taking.run_id}",
        link_text=f"Training of {project}",
        key="pipeline-run",
        description=describe_training(taking.source),
    )
    return taking.run_id


def describe_training(source: str) -> str:
    """Return the description, in Markdown, of the link to a run that trains on an export."""
    export = escape_markdown(source)
    return f"The run that trains on {export}; an earlier one if its content was trained before."
