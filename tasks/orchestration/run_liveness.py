"""Which flow runs live in a process of this machine: each holds a lock that dies with it.

The files lie in `runs` below the home, one a flow run. A lock says more than a pid: pids are used
again, and mean nothing in another container or after a restart.
"""

import atexit
import contextlib
import functools
from pathlib import Path
from typing import Any

from prefect import runtime

from tasks.settings import Settings, get_settings
from tasks.system.processes import in_use, is_in_use

_SUFFIX = ".in-use"
_held: dict[str, contextlib.ExitStack] = {}


def hold_run(flow: Any, flow_run: Any, state: Any) -> None:
    """A flow's `on_running` hook: this process is the one its run lives in, to its end."""
    hold(get_settings(), str(flow_run.id))


def hold(settings: Settings, run_id: str) -> None:
    """Keep that this process is where the run lives; a second time it does nothing."""
    if run_id in _held:
        return
    held = contextlib.ExitStack()
    held.enter_context(in_use(settings.layout.runs, run_id))
    _held[run_id] = held
    atexit.register(_let_go, settings.layout.runs / f"{run_id}{_SUFFIX}", held)


def list_held(settings: Settings) -> dict[str, bool]:
    """Runs that were begun by processes of this home, and whether such a process still lives."""
    folder = settings.layout.runs
    names = [path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}")]
    return {name: is_in_use(folder, name) for name in sorted(names)}


def forget_run(settings: Settings, run_id: str) -> None:
    """Its process is gone and its end is known."""
    (settings.layout.runs / f"{run_id}{_SUFFIX}").unlink(missing_ok=True)


@functools.lru_cache(maxsize=256)
def _find_root(run_id: str) -> str:
    return str(runtime.flow_run.root_flow_run_id or run_id)


def current_root_run() -> str:
    """The outermost run this process works for, on whatever machine that is; "" outside a run."""
    run_id = runtime.flow_run.id
    return _find_root(str(run_id)) if run_id else ""


def _let_go(path: Path, held: contextlib.ExitStack) -> None:
    path.unlink(missing_ok=True)
    held.close()
