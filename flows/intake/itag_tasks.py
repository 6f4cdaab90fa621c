"""Export iTAG labelling tasks, once for each time that a task is finished."""

import logging

from flows.intake.projects import Project
from intent_core.errors import ServiceError
from tasks.datasets.export_ledger import (
    TaskExport,
    claim_task_export,
    find_task_export,
    forget_task_export,
    note_task_export,
)
from tasks.labeling.itag import ExportFailedError, open_service
from tasks.settings import Settings
from tasks.storage.step_results import get_store

logger = logging.getLogger(__name__)

_WAIT_S, _POLL_S = 240, 5


def export_finished_task(settings: Settings, name: str, project: Project) -> str | None:
    """Return the `oss://` URI of a finished task's export; None if taken or not finished.

    If a watcher dies after starting an export, the next one waits for the same job. An export that
    takes longer than this call waits is picked up by the next poll; a failed export is restarted
    then. Raises `ConfigError` if manual action is required.
    """
    store, service = get_store(settings), open_service(settings)
    task = project.itag_task
    if not service.is_finished(task):
        forget_task_export(store, name, task)
        return None
    export = find_task_export(store, name, task)
    if export is None:
        job_id = service.start_export(task, project.itag_folder or None)
        export = claim_task_export(store, name, TaskExport(task=task, job_id=job_id))
    if export.run_id:
        return None
    try:
        return service.wait_for_export(task, export.job_id, timeout_s=_WAIT_S, poll_s=_POLL_S)
    except ExportFailedError:
        forget_task_export(store, name, task)
        raise
    except ServiceError as error:
        logger.warning("%s; will retry on the next poll", error)
        return None


def note_taken_task(settings: Settings, name: str, project: Project, run_id: str) -> None:
    """Record that a run took the export of the task, until the task is reopened."""
    store = get_store(settings)
    export = find_task_export(store, name, project.itag_task)
    if export:
        note_task_export(store, name, export.model_copy(update={"run_id": run_id}))
