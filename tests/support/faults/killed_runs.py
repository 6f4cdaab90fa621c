"""A separate home that uses the test session's Prefect and MLflow, and leftovers of a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tasks.settings import Settings

# A pipeline run with a step in the same process and live curves, all in progress.
_RUN = """
import sys, time
from prefect import flow, runtime
from tasks.tracking.live_curves import LiveCurves
from tasks.orchestration.run_liveness import hold_run
from tasks.settings import get_settings

@flow(name="finetune", persist_result=False, on_running=[hold_run])
def step():
    curves = LiveCurves(get_settings(), "doctored", "trainings/doctored")
    print(runtime.flow_run.id, curves._run_id, flush=True)
    time.sleep(600)

@flow(name="intent-pipeline", persist_result=False, on_running=[hold_run])
def whole():
    print(runtime.flow_run.id, flush=True)
    step()

whole()
"""


def home_beside(platform: Settings, folder: Path, **settings: object) -> Settings:
    """Return the settings of another machine that shares the servers."""
    return Settings(
        home=folder,
        prefect_url=platform.prefect_api_url,
        mlflow_url=platform.mlflow_tracking_url,
        **settings,
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the same settings as environment variables of a process."""
    return {
        **os.environ,
        "INTENT_HOME": str(settings.home),
        "INTENT_PREFECT_URL": settings.prefect_url,
        "INTENT_MLFLOW_URL": settings.mlflow_url,
        "PREFECT_API_URL": settings.prefect_url,
    }


def kill_a_run(settings: Settings) -> tuple[str, str, str]:
    """Kill a run; return the flow run, the run of its step and the MLflow run left running."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN],
        env=environment_of(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        whole = process.stdout.readline().strip()
        step, tracked = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    process.wait()
    return whole, step, tracked
