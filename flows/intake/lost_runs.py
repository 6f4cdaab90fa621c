"""Find runs whose process died or that failed with a temporary error, and restart them.

The automation `intent-run-died` is slower: it marks a run after fifteen minutes, and never a run
that has sent no heartbeat. It covers servers without a watcher.
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

# Errors that a later try may not meet.
_TEMPORARY = (
    *("ServiceError", "StorageError", "TrackingError", "ServingError", "PromotionInProgressError"),
    # The previous name of `PromotionInProgressError`, in states stored by earlier versions.
    "PromotionUnderWayError",
    # Prefect's server was down for longer than its client retries.
    *("ConnectError", "ReadError", "ReadTimeout", "RemoteProtocolError", "PrefectHTTPStatusError"),
)


def mark_lost(client: SyncPrefectClient, settings: Settings) -> None:
    """Set runs whose process has died to Crashed, which releases their locks and slots."""
    for death in find_dead(client, settings):
        end_dead_run(client, death)
        logger.warning(
            "marked run %s (%s) as crashed: %s", death.run.name, death.run.id, death.reason
        )


def start_again(
    client: SyncPrefectClient, settings: Settings, projects: Iterable[str]
) -> list[str]:
    """Schedule crashed runs, and runs with a temporary error, again; return their ids.

    The same run resumes: finished steps are found in the store. A run that was restarted
    INTENT_MAX_RESTARTS times is not restarted again; an error is logged.
    """
    started = []
    for project in projects:
        for run in _read_ended(client, project):
            if not _is_worth_it(run):
                continue
            if run.run_count > settings.max_restarts:
                logger.error(
                    "run %s (%s) was started %d times and ended as %s: see its log, then press "
                    "Retry on its page",
                    *(run.name, run.id, run.run_count, run.state_name),
                )
                continue
            client.set_flow_run_state(run.id, Scheduled(message=f"again after {run.state_name}"))
            logger.info("restarted run %s (%s) after %s", run.name, run.id, run.state_name)
            started.append(str(run.id))
    return started


def _is_worth_it(run: FlowRun) -> bool:
    if run.state_type == StateType.CRASHED:
        return True
    message = (run.state.message if run.state else "") or ""
    return any(f"{name}:" in message for name in _TEMPORARY)


def _read_ended(client: SyncPrefectClient, project: str) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[f"project:{project}"]),
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.CRASHED, StateType.FAILED])
            ),
        )
    )
