"""Runs that Prefect or MLflow show as under way and nobody works on any more."""

import datetime
from collections.abc import Iterator
from functools import partial
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Crashed

from intent_core.errors import ServiceError, TrackingError
from tasks.maintenance.checks import Diagnosis, Examination, report_note, report_problem
from tasks.orchestration.heartbeats import last_heartbeat
from tasks.orchestration.run_liveness import forget_run, list_held
from tasks.system.processes import find_process
from tasks.tracking.runs import FLOW_RUN_TAG, KEY_TAG, TRAINING_TAG, make_client, mlflow_errors

# A server may be other people's too: only these are ours to judge.
FLOWS = (
    *("intent-pipeline", "prepare", "finetune", "evaluate-model", "promote", "roll-back"),
    *("watch-exports", "take-export"),
)
_UNFINISHED = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
_PAGE = 200
_MESSAGE = "its process is gone; found by `intent doctor`"


def check_flow_runs(examination: Examination) -> Iterator[Diagnosis]:
    """Prefect runs in a state of work whose process no longer exists are marked as crashed.

    A run counts as gone when its process had a home here and let its lock go; when it lived in a
    run that has ended; or when its worker has been offline for long and it beats no more.
    """
    name, settings = "prefect-runs", examination.settings
    try:
        with get_client(sync_client=True) as client:
            if (problem := client.api_healthcheck()) is not None:
                yield _not_reached(examination, name, "prefect", str(problem))
                return
            held = list_held(settings)
            runs = _read_unfinished(client)
            dead: dict[UUID, str] = {}
            for run in sorted(runs, key=lambda run: run.created or _now()):
                reason = _why_dead(examination, client, run, held, dead)
                if reason is None:
                    continue
                dead[run.id] = reason
                examination.dead_runs.add(str(run.id))
                what = f"run {run.name} ({run.id}) is {run.state_name}, and {reason}"
                yield examination.repair(
                    name, what, "marked as crashed", partial(_crash, client, run)
                )
            if not examination.dry_run:
                unfinished = {str(run.id) for run in _read_unfinished(client)}
                for run_id in (one for one, lives in held.items() if not lives):
                    if run_id not in unfinished:
                        forget_run(settings, run_id)
    except (httpx.HTTPError, PrefectException) as error:
        yield report_problem(name, f"Prefect failed: {error}", "look at its log, then ask again")


def check_tracking_runs(examination: Examination) -> Iterator[Diagnosis]:
    """MLflow runs left RUNNING after their flow run has ended become KILLED.

    A later run of the same training opens such a run again.
    """
    name, settings = "mlflow-runs", examination.settings
    try:
        with mlflow_errors(settings.mlflow_tracking_url), get_client(sync_client=True) as prefect:
            client = make_client(settings)
            experiments = [one.experiment_id for one in client.search_experiments()]
            wanted = f"attributes.status = 'RUNNING' and tags.`{TRAINING_TAG}` != ''"
            for run in client.search_runs(experiments, wanted) if experiments else ():
                flow_run = run.data.tags.get(FLOW_RUN_TAG, "")
                if not _has_ended(examination, prefect, flow_run):
                    continue
                identity, named = run.info.run_id, run.info.run_name
                # Half recorded: the next record makes it anew. A training may go on in it.
                outcome = "FAILED" if KEY_TAG in run.data.tags else "KILLED"
                yield examination.repair(
                    name,
                    f"MLflow run {named} ({identity}) is RUNNING, and its flow run "
                    f"{flow_run or '(unknown)'} has ended",
                    f"set to {outcome}",
                    partial(client.set_terminated, identity, outcome),
                )
    except TrackingError as error:
        yield _not_reached(examination, name, "mlflow", str(error))
    except (httpx.HTTPError, PrefectException) as error:
        yield report_note(
            name, f"not looked at, as Prefect does not answer: {error}", "`intent up`"
        )


def is_run_under_way(examination: Examination) -> bool:
    """Does a process of this home work on a run at this moment?"""
    return any(list_held(examination.settings).values())


def _read_unfinished(client: SyncPrefectClient) -> list[FlowRun]:
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED))
            ),
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


def _why_dead(
    examination: Examination,
    client: SyncPrefectClient,
    run: FlowRun,
    held: dict[str, bool],
    dead: dict[UUID, str],
) -> str | None:
    """Why nobody works on it, or None when somebody does or may."""
    run_id = str(run.id)
    if run_id in held:
        return None if held[run_id] else "the process of this machine it lived in is gone"
    if run.parent_task_run_id and not run.deployment_id:
        parent = client.read_task_run(run.parent_task_run_id).flow_run_id
        if parent in dead:
            return f"the run it lived in ({parent}) is gone"
        if parent and (state := client.read_flow_run(parent).state) and state.is_final():
            return f"the run it lived in ({parent}) has ended"
        return None
    return _why_worker_gone(examination, client, run)


def _why_worker_gone(
    examination: Examination, client: SyncPrefectClient, run: FlowRun
) -> str | None:
    labels = run.labels or {}
    worker_name, pool = labels.get("prefect.worker.name"), labels.get("prefect.work-pool.name")
    if not worker_name or not pool or _lives_here(str(run.id)):
        return None
    limit = _now() - datetime.timedelta(hours=examination.settings.worker_gone_hours)
    workers = [
        one for one in client.read_workers_for_work_pool(str(pool)) if one.name == worker_name
    ]
    seen = max(
        (one.last_heartbeat_time for one in workers if one.last_heartbeat_time), default=None
    )
    is_online = any(one.status == WorkerStatus.ONLINE for one in workers)
    if is_online or seen is None or seen > limit or _beats_since(client, run, limit):
        return None
    return f"its worker {worker_name} has been offline since {seen:%Y-%m-%d %H:%M} UTC"


def _lives_here(run_id: str) -> bool:
    """A process of this machine that a worker has started for the run."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                return True
        except psutil.Error:
            continue
    return False


def _beats_since(client: SyncPrefectClient, run: FlowRun, since: datetime.datetime) -> bool:
    """Whether the run itself gave a sign of life, where such heartbeats are switched on."""
    heard = last_heartbeat(client, run)
    return heard is not None and heard >= since


def _crash(client: SyncPrefectClient, run: FlowRun) -> None:
    try:
        client.set_flow_run_state(run.id, Crashed(message=_MESSAGE), force=True)
    except (httpx.HTTPError, PrefectException) as error:
        raise ServiceError(f"Prefect did not take the state: {error}") from error


def _has_ended(examination: Examination, client: SyncPrefectClient, flow_run: str) -> bool:
    if not flow_run:
        return False  # of another version of this software: nobody can tell
    if flow_run in examination.dead_runs:
        return True
    try:
        state = client.read_flow_run(UUID(flow_run)).state
    except (ObjectNotFound, ValueError):
        return True
    return state is not None and state.is_final()


def _not_reached(examination: Examination, check: str, service: str, problem: str) -> Diagnosis:
    """A server that was stopped on purpose is no fault; one that should answer is."""
    settings = examination.settings
    theirs = settings.prefect_url if service == "prefect" else settings.mlflow_url
    record = settings.layout.processes / f"{service}.json"
    if theirs or record.exists() or find_process(record.parent, service):
        where = theirs or "the one started here"
        return report_problem(
            check, f"not looked at: {service} does not answer ({problem})", f"see {where}"
        )
    return report_note(check, f"not looked at: {service} is not up", "`intent up`, then ask again")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
