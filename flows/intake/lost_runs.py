"""Runs whose process has died, or that met what passes: marked, and started again.

The automation `intent-run-died` marks one only after fifteen minutes, and no run that has never
sent a heartbeat; it is there for a server that no watcher looks after.
"""

import logging
from collections.abc import Iterable

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Scheduled

from tasks.orchestration.run_liveness import end_dead_run, find_dead
from tasks.settings import Settings

logger = logging.getLogger(__name__)

_PASSING = (
    *("ServiceError", "StorageError", "TrackingError", "ServingError", "PromotionInProgressError"),
    # The previous name of `PromotionInProgressError`, in states stored by earlier versions.
    "PromotionUnderWayError",
    # Prefect's own server, away for longer than its client tries.
    *("ConnectError", "ReadError", "ReadTimeout", "RemoteProtocolError", "PrefectHTTPStatusError"),
)


def mark_lost(client: SyncPrefectClient, settings: Settings) -> None:
    """Set the runs whose process has died to Crashed, which frees what they held."""
    for death in find_dead(client, settings):
        end_dead_run(client, death)
        logger.warning("run %s (%s) is dead: %s", death.run.name, death.run.id, death.reason)


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
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.CRASHED, StateType.FAILED])
            ),
        )
    )
