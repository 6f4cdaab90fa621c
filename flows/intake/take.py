"""Start one run for each content of an export, no matter how many watchers see it."""

import logging
import tempfile
import time
from pathlib import Path

from prefect.client.schemas.objects import FlowRun

from flows.intake.projects import Project
from flows.parameters import load_recipe
from flows.remote import submit
from intent_core.errors import DataError
from tasks.datasets.export_ledger import Sighting, Taking, find_taking, note_taking, see
from tasks.datasets.fetch import copy_to_store, fetch_export
from tasks.orchestration.retries import retried_task
from tasks.settings import Settings, get_settings
from tasks.storage.objects import ObjectStore, StoredObject
from tasks.storage.step_results import get_store, work_folder

logger = logging.getLogger(__name__)


def find_complete(
    store: ObjectStore, name: str, project: Project, export: StoredObject
) -> Sighting | None:
    """Return when and how the export was seen, if it is complete and not taken yet."""
    seen = see(store, name, export)
    if seen.sha256:
        return None
    if project.marker:
        return seen if store.stat(project.marker_key(export.key)) else None
    return seen if time.time() - seen.since >= 60 * project.unchanged_minutes else None


def find_newest(store: ObjectStore, name: str, project: Project) -> str:
    """Return the key of the export that changed last. Raises `DataError` if there is none."""
    exports = [export for export in store.list(project.exports) if project.is_export(export.key)]
    if not exports:
        raise DataError(f"project {name!r} has no export below {project.exports!r} in the store")
    return max(exports, key=lambda export: (export.changed or 0, export.key)).key


@retried_task("take {export}")
def take(project: str, recipe: str, export: str, seen: Sighting | None) -> Taking:
    """Start a run for this export's content, or return the run that already took it."""
    settings = get_settings()
    store = get_store(settings)
    with tempfile.TemporaryDirectory(dir=work_folder(settings)) as folder:
        file = fetch_export(export, Path(folder), allow_paths=False)
        sha256 = file.source.sha256
        taken = find_taking(store, project, sha256)
        if taken is None:
            snapshot = copy_to_store(settings, file)
            run = start_run(settings, project, recipe, snapshot, sha256)
            taken = Taking(
                project=project,
                source=file.source.uri,
                snapshot=snapshot,
                sha256=sha256,
                run_id=str(run.id),
            )
            logger.info("project %s: started a run for %s: %s", project, file.source.uri, run.id)
    note_taking(store, taken, seen)
    return taken


def start_run(settings: Settings, project: str, recipe: str, snapshot: str, sha256: str) -> FlowRun:
    """Create a run of the pipeline; the same content of the same project gives the same run.

    The `project` of the recipe is overridden, so that the registry uses this project's name.
    """
    parameters: dict[str, object] = {"export_uri": snapshot, "recipe": recipe}
    if load_recipe(recipe).project != project:
        parameters["overrides"] = {"project": project}
    return submit(
        settings.pipeline_deployment,
        parameters=parameters,
        idempotency_key=f"{project}:{sha256}",
        tags=[f"project:{project}"],
        timeout=0,
        as_subflow=False,
    )
