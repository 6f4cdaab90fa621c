"""`intent doctor`: all checks, ordered so that each repair helps the next check."""

from collections.abc import Callable, Iterator

from intent_core.errors import IntentError
from tasks.maintenance.checks import Diagnosis, Examination, report_problem
from tasks.maintenance.checks.certificate import check_certificate
from tasks.maintenance.checks.deployments import check_deployments
from tasks.maintenance.checks.disk import check_disk
from tasks.maintenance.checks.environment import check_environment
from tasks.maintenance.checks.gateway import check_nginx
from tasks.maintenance.checks.processes import check_model_servers, check_services, check_trainings
from tasks.maintenance.checks.registry import check_champion, check_versions
from tasks.maintenance.checks.restore import check_restore
from tasks.maintenance.checks.runs import check_flow_runs, check_tracking_runs
from tasks.maintenance.checks.store import check_names, check_write_once
from tasks.maintenance.checks.uploads import check_half_folders, check_scratch, check_uploads
from tasks.settings import Settings

CHECKS: dict[str, Callable[[Examination], Iterator[Diagnosis]]] = {
    "restore": check_restore,
    "trainings": check_trainings,
    "prefect-runs": check_flow_runs,
    "deployments": check_deployments,
    "mlflow-runs": check_tracking_runs,
    "services": check_services,
    "champion": check_champion,
    "model-servers": check_model_servers,
    "versions": check_versions,
    "uploads": check_uploads,
    "half-written": check_half_folders,
    "scratch": check_scratch,
    "names": check_names,
    "write-once": check_write_once,
    "disk": check_disk,
    "certificate": check_certificate,
    "environment": check_environment,
    "nginx": check_nginx,
}


def examine(
    settings: Settings, *, dry_run: bool = False, set_lifecycle: bool = False
) -> Iterator[Diagnosis]:
    """Run all checks and yield each diagnosis; repair what can be repaired, unless `dry_run`."""
    examination = Examination(settings, dry_run=dry_run, set_lifecycle=set_lifecycle)
    for name, check in CHECKS.items():
        try:
            yield from check(examination)
        except IntentError as error:
            # A failure in one system must not hide findings about the others.
            yield report_problem(
                name, f"not checked: {error}", "fix this, then run `intent doctor` again"
            )
