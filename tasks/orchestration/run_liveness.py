"""Detect dead flow runs by their process's lock, their heartbeats and their worker.

The lock files are in the home's `runs` folder, one per flow run; the kernel frees a lock when its
process dies. Locks are more reliable than pids, which are reused and mean nothing in another
container or after a restart. A run from a work pool sends a heartbeat every 30 s
(`deployments/work_pools`). A live worker reports the death of a process at once; if the worker
dies, too, or the server is down, nothing reports it.
"""

import atexit
import contextlib
import datetime
import functools
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psutil
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.states import Cancelled, Crashed

from tasks.settings import Settings, get_settings
from tasks.system.processes import in_use, is_in_use

logger = logging.getLogger(__name__)

# Other projects may use the same server: only runs of these flows are checked.
FLOWS = (
    *("intent-pipeline", "prepare", "finetune", "evaluate-model", "promote", "roll-back"),
    *("watch-exports", "take-export"),
)
_SUFFIX = ".in-use"
_PAGE = 200
_LOOK_BACK, _LOOK_AHEAD = datetime.timedelta(days=7), datetime.timedelta(hours=1)
_HEARTBEAT_S = 30
_HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_SLOW_START = 5
"""A pending run may be silent this many times longer than a running one."""
_held: dict[str, contextlib.ExitStack] = {}


class DeadRun(NamedTuple):
    """A run that Prefect shows as unfinished, and why it is considered dead."""

    run: FlowRun
    reason: str
    is_silent: bool = False
    """Missing heartbeats are the only sign; `find_dead` checks twice."""


def hold_run(flow: Any, flow_run: Any, state: Any) -> None:
    """A flow's `on_running` hook: lock the run until this process ends."""
    hold(get_settings(), str(flow_run.id))


def hold(settings: Settings, run_id: str) -> None:
    """Lock the run until this process ends; does nothing if this process holds the lock already."""
    if run_id in _held:
        return
    held = contextlib.ExitStack()
    held.enter_context(in_use(settings.layout.runs, run_id))
    _held[run_id] = held
    atexit.register(_release, settings.layout.runs / f"{run_id}{_SUFFIX}", held)


def list_held(settings: Settings) -> dict[str, bool]:
    """Return the runs started by processes of this home, and whether each process is alive."""
    folder = settings.layout.runs
    names = [path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}")]
    return {name: is_in_use(folder, name) for name in sorted(names)}


def forget_run(settings: Settings, run_id: str) -> None:
    """Delete the run's lock file; its process is dead and Prefect has its final state."""
    (settings.layout.runs / f"{run_id}{_SUFFIX}").unlink(missing_ok=True)


def has_live_run(settings: Settings) -> bool:
    """Whether a live process of this home is executing a run."""
    return any(list_held(settings).values())


def find_dead(client: SyncPrefectClient, settings: Settings) -> list[DeadRun]:
    """Return the unfinished runs without a process. A run without any evidence counts as alive.

    Runs that are only silent are checked again after one heartbeat interval: a server that was
    down has missed the heartbeats of live runs.
    """
    dead = _judge_runs(client, settings)
    if any(death.is_silent for death in dead):
        logger.info("%d run(s) without a recent heartbeat: checking again", len(dead))
        time.sleep(_HEARTBEAT_S + 10)
        before = {death.run.id for death in dead}
        dead = [death for death in _judge_runs(client, settings) if death.run.id in before]
    return dead


def end_dead_run(client: SyncPrefectClient, death: DeadRun) -> None:
    """Set the run to Crashed, or to Cancelled if it was being cancelled; frees its limits."""
    message = f"the run's process died: {death.reason}"
    is_cancelling = death.run.state_type == StateType.CANCELLING
    state: State[None] = Cancelled(message=message) if is_cancelling else Crashed(message=message)
    client.set_flow_run_state(death.run.id, state)


def read_unfinished(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the running, cancelling and pending runs of our flows."""
    states = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
    runs: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))
            ),
            limit=_PAGE,
            offset=len(runs),
        )
        runs += page
        if len(page) < _PAGE:
            return runs


def last_heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime.datetime | None:
    """Return the time of the run's last heartbeat; None if there was none within a week."""
    now = _now()
    beats = EventFilter(
        # The clock of another machine may be ahead.
        occurred=EventOccurredFilter(since=now - _LOOK_BACK, until=now + _LOOK_AHEAD),
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
    )
    page = client.read_events(beats, limit=1)
    return page.events[0].occurred if page.events else None


@functools.lru_cache(maxsize=256)
def _find_root(run_id: str) -> str:
    return str(runtime.flow_run.root_flow_run_id or run_id)


def current_root_run() -> str:
    """Return the id of the outermost parent run, on any machine; "" outside a run."""
    run_id = runtime.flow_run.id
    return _find_root(str(run_id)) if run_id else ""


def _release(path: Path, held: contextlib.ExitStack) -> None:
    path.unlink(missing_ok=True)
    held.close()


def _judge_runs(client: SyncPrefectClient, settings: Settings) -> list[DeadRun]:
    held = list_held(settings)
    dead: dict[UUID, DeadRun] = {}
    # Parents first: a run is created before its child runs.
    for run in sorted(read_unfinished(client), key=lambda run: run.created or _now()):
        if death := _judge(client, settings, run, held, dead):
            dead[run.id] = death
    return list(dead.values())


def _judge(
    client: SyncPrefectClient,
    settings: Settings,
    run: FlowRun,
    held: Mapping[str, bool],
    dead: Mapping[UUID, DeadRun],
) -> DeadRun | None:
    if held.get(str(run.id)):
        return None
    if run.parent_task_run_id and not run.deployment_id:
        parent = client.read_task_run(run.parent_task_run_id).flow_run_id
        if parent and parent in dead:
            return DeadRun(run, f"its parent run ({parent}) is dead", dead[parent].is_silent)
        if parent and (state := client.read_flow_run(parent).state) and state.is_final():
            return DeadRun(run, f"its parent run ({parent}) has ended")
        return None
    heard, lost_after_s = last_heartbeat(client, run), settings.lost_after_s
    is_quiet = _is_quiet(run, heard, lost_after_s)
    # A deployed run may have resumed on another machine after its process here died.
    if str(run.id) in held and (is_quiet or not run.deployment_id):
        return DeadRun(run, "its process on this machine is gone")
    if is_quiet and (heard or _sends_heartbeats(client, run)):
        return DeadRun(run, f"no heartbeat for {lost_after_s:.0f} s", is_silent=True)
    if offline := _find_offline_worker(client, settings, run, heard):
        return DeadRun(run, f"its worker {offline}")
    return None


def _is_quiet(run: FlowRun, heard: datetime.datetime | None, lost_after_s: float) -> bool:
    """Whether the run has been without heartbeat for too long, assuming that it sends any."""
    if run.state is None:
        return False
    age_s = _seconds_since(run.state.timestamp)
    if run.state_type == StateType.PENDING:
        # Not started yet (a container image may be downloading): it cannot send heartbeats.
        return age_s > _SLOW_START * lost_after_s
    return age_s >= lost_after_s and (heard is None or _seconds_since(heard) > lost_after_s)


def _sends_heartbeats(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether the run is expected to send heartbeats.

    Yes if its work pool enables them, or if it is a deployment's run that is still pending.
    """
    if run.state_type == StateType.PENDING:
        return run.deployment_id is not None
    if not run.work_pool_name:
        return False
    template = client.read_work_pool(run.work_pool_name).base_job_template
    env = template.get("variables", {}).get("properties", {}).get("env", {})
    return _HEARTBEAT in (env.get("default") or {})


def _find_offline_worker(
    client: SyncPrefectClient, settings: Settings, run: FlowRun, heard: datetime.datetime | None
) -> str:
    """Describe the run's worker if it has been offline for long; "" if it is alive or unknown."""
    labels = run.labels or {}
    worker_name, pool = labels.get("prefect.worker.name"), labels.get("prefect.work-pool.name")
    if not worker_name or not pool or _lives_here(str(run.id)):
        return ""
    workers = [
        worker
        for worker in client.read_workers_for_work_pool(str(pool))
        if worker.name == worker_name
    ]
    seen = max((w.last_heartbeat_time for w in workers if w.last_heartbeat_time), default=None)
    limit = _now() - datetime.timedelta(hours=settings.worker_gone_hours)
    is_online = any(worker.status == WorkerStatus.ONLINE for worker in workers)
    if is_online or seen is None or seen > limit or (heard and heard >= limit):
        return ""
    return f"{worker_name} has been offline since {seen:%Y-%m-%d %H:%M} UTC"


def _lives_here(run_id: str) -> bool:
    """Whether a process on this machine was started by a worker for the run."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                return True
        except psutil.Error:
            continue
    return False


def _seconds_since(then: datetime.datetime) -> float:
    return (_now() - then).total_seconds()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
