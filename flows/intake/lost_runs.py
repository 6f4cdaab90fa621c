"""Runs whose process has died: found by their silence, called crashed, and started again.

The process of a run sends a heartbeat every 30 s (`deployments/work_pools`). A worker that lives
reports a process that dies at once; when both die, or the server with them, nobody does. A server
that was down hears nothing from a run that lives, so silence counts only while it answers.
"""

import datetime
import logging
import time
from collections.abc import Iterable

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed, Scheduled
from prefect.types import DateTime

from tasks.orchestration.heartbeats import last_heartbeat
from tasks.settings import Settings

logger = logging.getLogger(__name__)

_HEARTBEAT_S = 30
_HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_SLOW_START = 5
"""A process may take that many times longer to start than to send a heartbeat."""
_PASSING = (
    *("ServiceError", "StorageError", "TrackingError", "ServingError", "PromotionInProgressError"),
    # The previous name of `PromotionInProgressError`, in states stored by earlier versions.
    "PromotionUnderWayError",
    # Prefect's own server, away for longer than its client tries.
    *("ConnectError", "ReadError", "ReadTimeout", "RemoteProtocolError", "PrefectHTTPStatusError"),
)


def mark_lost(client: SyncPrefectClient, lost_after_s: float) -> list[FlowRun]:
    """Set the runs whose process has died to Crashed, which frees what they held.

    Looks twice, a heartbeat apart, if it looks as if there were any.
    """
    silent = _find_silent(client, lost_after_s)
    if not silent:
        return []
    logger.info("%d run(s) are silent: waiting for a heartbeat", len(silent))
    # One that lives is heard in this time, since the server answers.
    time.sleep(_HEARTBEAT_S + 10)
    silent_before = {run.id for run in silent}
    lost = [r for r in _find_silent(client, lost_after_s) if r.id in silent_before]
    for run in lost:
        message = f"its process has died: nothing was heard of it for {lost_after_s:.0f} s"
        is_cancelling = run.state_type == StateType.CANCELLING
        state: State[None] = (
            Cancelled(message=message) if is_cancelling else Crashed(message=message)
        )
        client.set_flow_run_state(run.id, state)
        logger.warning("run %s (%s) is %s: %s", run.name, run.id, state.name, message)
    return lost


def start_again(
    client: SyncPrefectClient, settings: Settings, projects: Iterable[str]
) -> list[str]:
    """Schedule again the projects' runs that have crashed or met what passes; their ids.

    The same run goes on: steps that were finished are found in the store. One that was started
    `INTENT_MAX_RESTARTS` times more than once stays as it is, and is reported.
    """
    started = []
    for project in projects:
        for run in _read_ended(client, project):
            if not _is_worth_it(run):
                continue
            if run.run_count > settings.max_restarts:
                logger.error(
                    "run %s (%s) was started %d times and ended as %s: look at its log, then "
                    "press Retry on its page",
                    *(run.name, run.id, run.run_count, run.state_name),
                )
                continue
            client.set_flow_run_state(run.id, Scheduled(message=f"again after {run.state_name}"))
            logger.info("run %s (%s) goes on after %s", run.name, run.id, run.state_name)
            started.append(str(run.id))
    return started


def _is_worth_it(run: FlowRun) -> bool:
    if run.state_type == StateType.CRASHED:
        return True
    message = (run.state.message if run.state else "") or ""
    return any(f"{name}:" in message for name in _PASSING)


def _read_ended(client: SyncPrefectClient, project: str) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[f"project:{project}"]),
            state=_in_state(StateType.CRASHED, StateType.FAILED),
        )
    )


def _find_silent(client: SyncPrefectClient, lost_after_s: float) -> list[FlowRun]:
    under_way = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=_in_state(StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
        )
    )
    now = DateTime.now("UTC")
    return [run for run in under_way if _is_silent(client, run, now, lost_after_s)]


def _is_silent(
    client: SyncPrefectClient, run: FlowRun, now: datetime.datetime, lost_after_s: float
) -> bool:
    if run.state is None:
        return False
    age_s = (now - run.state.timestamp).total_seconds()
    if run.state_type == StateType.PENDING:
        # Its process is about to start, images are being fetched: it sends nothing yet.
        return run.deployment_id is not None and age_s > _SLOW_START * lost_after_s
    if age_s < lost_after_s:
        return False
    heard = last_heartbeat(client, run)
    if heard is None:
        return _sends_heartbeats(client, run)
    return (now - heard).total_seconds() > lost_after_s


def _sends_heartbeats(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Does its pool make runs send any? Of one made otherwise nothing can be said."""
    if not run.work_pool_name:
        return False
    template = client.read_work_pool(run.work_pool_name).base_job_template
    env = template.get("variables", {}).get("properties", {}).get("env", {})
    return _HEARTBEAT in (env.get("default") or {})


def _in_state(*types: StateType) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
