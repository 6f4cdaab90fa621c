"""Close runs that Prefect or MLflow show as running although their process is dead."""

from collections.abc import Iterator
from functools import partial
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectException

from intent_core.errors import LoginRefusedError, ServiceError, TrackingError
from tasks.maintenance.checks import Diagnosis, Examination, report_note, report_problem
from tasks.orchestration.prefect_client import explain
from tasks.orchestration.run_liveness import (
    DeadRun,
    end_dead_run,
    find_dead,
    forget_run,
    list_held,
    read_unfinished,
)
from tasks.system.processes import find_process
from tasks.tracking.runs import FLOW_RUN_TAG, KEY_TAG, TRAINING_TAG, make_client, mlflow_errors


def check_flow_runs(examination: Examination) -> Iterator[Diagnosis]:
    """Mark unfinished Prefect runs whose process no longer exists as crashed.

    `find_dead` finds them: the process on this machine is gone, the parent run has ended, no
    heartbeats arrive, or the worker has been offline for long.
    """
    name, settings = "prefect-runs", examination.settings
    try:
        with get_client(sync_client=True) as client:
            if (problem := client.api_healthcheck()) is not None:
                yield _not_reached(examination, name, "prefect", str(problem))
                return
            held = list_held(settings)
            for death in find_dead(client, settings):
                run = death.run
                examination.dead_runs.add(str(run.id))
                what = f"run {run.name} ({run.id}) is {run.state_name}, but {death.reason}"
                action = "cancelled" if run.state_type == StateType.CANCELLING else "crashed"
                yield examination.repair(
                    name, what, f"marked as {action}", partial(_end, client, death)
                )
            if not examination.dry_run:
                unfinished = {str(run.id) for run in read_unfinished(client)}
                for run_id, lives in held.items():
                    if not lives and run_id not in unfinished:
                        forget_run(settings, run_id)
    except (httpx.HTTPError, PrefectException) as error:
        yield report_problem(
            name, explain(settings, error), "check its log, then run `intent doctor` again"
        )


def check_tracking_runs(examination: Examination) -> Iterator[Diagnosis]:
    """Mark MLflow runs that are RUNNING after their flow run has ended as KILLED.

    A later run of the same training resumes such an MLflow run.
    """
    name, settings = "mlflow-runs", examination.settings
    try:
        with mlflow_errors(settings.mlflow_tracking_url), get_client(sync_client=True) as prefect:
            client = make_client(settings)
            experiments = [experiment.experiment_id for experiment in client.search_experiments()]
            wanted = f"attributes.status = 'RUNNING' and tags.`{TRAINING_TAG}` != ''"
            for run in client.search_runs(experiments, wanted) if experiments else ():
                flow_run = run.data.tags.get(FLOW_RUN_TAG, "")
                if not _has_ended(examination, prefect, flow_run):
                    continue
                identity, named = run.info.run_id, run.info.run_name
                # FAILED: the record of a finished run is incomplete and will be created again.
                # KILLED: a training, which a later run may resume.
                outcome = "FAILED" if KEY_TAG in run.data.tags else "KILLED"
                yield examination.repair(
                    name,
                    f"MLflow run {named} ({identity}) is RUNNING, but its flow run "
                    f"{flow_run or '(unknown)'} has ended",
                    f"set to {outcome}",
                    partial(client.set_terminated, identity, outcome),
                )
    except LoginRefusedError as error:
        yield report_problem(name, "not checked: MLflow refused our login", str(error))
    except TrackingError as error:
        yield _not_reached(examination, name, "mlflow", str(error))
    except (httpx.HTTPError, PrefectException) as error:
        yield report_note(
            name, f"not checked: {explain(settings, error)}", "start it with `intent up`"
        )


def _end(client: SyncPrefectClient, death: DeadRun) -> None:
    try:
        end_dead_run(client, death)
    except (httpx.HTTPError, PrefectException) as error:
        raise ServiceError(f"Prefect did not accept the new state: {error}") from error


def _has_ended(examination: Examination, client: SyncPrefectClient, flow_run: str) -> bool:
    if not flow_run:
        return False  # unknown: another version of this software created it
    if flow_run in examination.dead_runs:
        return True
    try:
        state = client.read_flow_run(UUID(flow_run)).state
    except (ObjectNotFound, ValueError):
        return True
    return state is not None and state.is_final()


def _not_reached(examination: Examination, check: str, service: str, problem: str) -> Diagnosis:
    """Report a server that should answer as a problem, one that was not started as a note."""
    settings = examination.settings
    theirs = settings.prefect_url if service == "prefect" else settings.mlflow_url
    record = settings.layout.processes / f"{service}.json"
    if theirs or record.exists() or find_process(record.parent, service):
        where = theirs or f"its log, {record.with_suffix('.log')}"
        return report_problem(
            check, f"not checked: {service} does not answer ({problem})", f"check {where}"
        )
    return report_note(
        check,
        f"not checked: {service} is not running",
        "start it with `intent up`, then run `intent doctor` again",
    )
