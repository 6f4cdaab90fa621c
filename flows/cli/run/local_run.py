"""Run the pipeline once in this process."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Cancelling

from flows.parameters import load_recipe
from flows.pipeline.flow import intent_pipeline
from flows.pipeline.outcome import REJECTED, PipelineOutcome
from intent_core.errors import ConfigError, ServiceError
from intent_core.files import file_lock
from tasks.models.base_models import require_base_model
from tasks.orchestration.prefect_client import connect
from tasks.orchestration.run_liveness import hold
from tasks.settings import Settings
from tasks.storage.layout import OUTCOMES
from tasks.storage.step_results import get_store, require_finished

_UNFINISHED = [
    StateType.CRASHED,
    StateType.RUNNING,
    StateType.PENDING,
    StateType.SCHEDULED,
]


@contextlib.contextmanager
def only_run(settings: Settings) -> Iterator[None]:
    """Hold the lock of this machine: two runs would compete for its cores and ports.

    The kernel releases the lock when the process ends. Raises `ConfigError` if another run holds
    it.
    """
    path = settings.layout.run_lock
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(file_lock(path, blocking=False))
        except BlockingIOError as error:
            raise ConfigError(
                f"another run is in progress (pid {path.read_text().strip() or 'unknown'}). Wait "
                "for it, or stop it with Ctrl-C in its terminal, then run this command again"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def run_pipeline(
    settings: Settings,
    export_uri: str,
    recipe: str,
    overrides: Mapping[str, Any],
    announce: Callable[[str], None],
) -> tuple[str, PipelineOutcome]:
    """Run the flow in this process and return the run's id and outcome.

    Ctrl-C sets the child runs, then the run, to Cancelled; finished steps stay finished.

    Raises:
        IntentError: as raised by the flow.
        ServiceError: Prefect failed, or the run ended in a state other than Completed or Rejected.
    """
    config = load_recipe(recipe, overrides)
    require_base_model(config.train.base_model)
    parameters = {"export_uri": export_uri, "recipe": recipe, "overrides": dict(overrides)}
    with connect(settings) as client:
        run = client.create_flow_run(intent_pipeline, parameters=parameters)
        hold(settings, str(run.id))
        announce(f"{settings.prefect_ui_url}/runs/flow-run/{run.id}")
        try:
            state = cast(
                State[Any],
                run_flow(intent_pipeline, run, parameters=parameters, return_type="state"),
            )
        except KeyboardInterrupt:
            mark_cancelled(client, run)
            raise
        except (httpx.HTTPError, PrefectException) as error:
            raise ServiceError(f"Prefect at {settings.prefect_api_url} failed: {error}") from error
    if not state.is_completed() and state.name != REJECTED:
        state.result(raise_on_failure=True)
        raise ServiceError(f"the run ended as {state.name}: {state.message}")
    store = get_store(settings)
    return str(run.id), require_finished(store, OUTCOMES.key(str(run.id)), PipelineOutcome)


def mark_cancelled(client: SyncPrefectClient, run: FlowRun) -> None:
    """Set an interrupted run to Cancelled; Prefect itself would set it to Crashed."""
    cancelled: State[None] = Cancelled(
        message="stopped with Ctrl-C; the same command resumes from here"
    )
    crashed = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
    )
    for child in client.read_flow_runs(flow_run_filter=crashed):
        # Cancelling makes a worker end the process; a run without a worker has no such process.
        wanted = Cancelling() if child.deployment_id else cancelled
        client.set_flow_run_state(child.id, wanted, force=True)
    client.set_flow_run_state(run.id, cancelled, force=True)
