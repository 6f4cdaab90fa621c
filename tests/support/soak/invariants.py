"""Conditions that must hold once an installation is idle again, whatever was killed before."""

import collections
import contextlib
import json
import time
from typing import Any, NamedTuple

import httpx
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from tasks.settings import get_settings
from tests.support.soak.installation import ALIAS, PREFIX, Platform

_FINAL = ("FINISHED", "FAILED", "KILLED")
_DECIDED = ("Completed", "Rejected")
_PAGE = 200

Content = tuple[str, str]
"""A project and the first digits of an export's digest."""


class Found(NamedTuple):
    """The result of checking the idle installation."""

    runs: int
    mlflow_runs: int
    served: str
    violations: list[str]


def read_runs() -> list[FlowRun]:
    """Return all flow runs."""
    found: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        while True:
            page = client.read_flow_runs(limit=_PAGE, offset=len(found))
            found += page
            if len(page) < _PAGE:
                return found


def unfinished_exports(contents: set[Content]) -> int:
    """Count exports without a completed run; all of them while Prefect does not answer."""
    try:
        done = {_content(run) for run in _pipeline_runs() if run.state_name in _DECIDED}
    except Exception:  # some server is down: count none as finished
        return len(contents)
    return len(contents - done)


def count_left(contents: set[Content]) -> tuple[int, int]:
    """Count active runs and exports without a finished run. Raises if Prefect is down."""
    runs = read_runs()
    busy = [run for run in runs if not _is_watcher(run) and not _is_final(run)]
    return len(busy), unfinished_exports(contents)


def check(platform: Platform, contents: dict[Content, str]) -> Found:
    """Check all conditions; `contents` maps each export's content to its key."""
    violations: list[str] = []
    runs = read_runs()
    violations += [
        f"run {run.name!r} is {run.state_name}" for run in runs if not _is_final(run, seconds=600)
    ]
    by_content = collections.defaultdict(list)
    for run in _pipeline_runs():
        by_content[_content(run)].append(run)
    for content, key in contents.items():
        states = [run.state_name for run in by_content.get(content, [])]
        if len(states) != 1 or states[0] not in _DECIDED:
            violations.append(f"{key} has runs {states}; expected one finished run")
    violations += [
        f"a run processed unknown content {digest}" for digest in by_content.keys() - contents
    ]
    violations += [f"orphan: {text}" for text in platform.orphans()]
    violations += _held_slots()
    served, faults = _check_served(platform)
    violations += faults
    mlflow_runs, faults = _check_mlflow({project for project, _ in contents})
    return Found(len(runs), mlflow_runs, served, violations + faults)


def _pipeline_runs() -> list[FlowRun]:
    return [run for run in read_runs() if _project(run)]


def _project(run: FlowRun) -> str:
    """Return the project of a run that processes an export; "" for any other run."""
    named = [tag.removeprefix("project:") for tag in run.tags if tag.startswith("project:")]
    return named[0] if named and "export_uri" in run.parameters else ""


def _content(run: FlowRun) -> Content:
    """Return the content that a run was started for, from its snapshot's name."""
    return _project(run), str(run.parameters["export_uri"]).split("/")[1]


def _is_watcher(run: FlowRun) -> bool:
    """Whether the run is in `intent watch`'s own process; if killed, its state is not updated."""
    return run.deployment_id is None and run.parent_task_run_id is None


def _is_final(run: FlowRun, seconds: float = 0) -> bool:
    state = run.state
    if state is None or state.is_final():
        return state is not None
    # The watcher runs continuously, so a recent unfinished run of it is accepted.
    return _is_watcher(run) and time.time() - state.timestamp.timestamp() < seconds


def _held_slots() -> list[str]:
    with get_client(sync_client=True) as client:
        limits = client.read_global_concurrency_limits(limit=_PAGE, offset=0)
    return [
        f"limit {one.name!r} has {one.active_slots} slots held"
        for one in limits
        if one.active_slots
    ]


def _check_served(platform: Platform) -> tuple[str, list[str]]:
    """Check that server and registry both have the model of the newest accepted run."""
    ended = [run for run in _pipeline_runs() if run.state and run.state.name == "Completed"]
    if not ended:
        return "", ["no run was accepted"]
    newest = max(ended, key=lambda run: run.end_time or run.created)
    body = platform.store.server.client().get_object(
        Bucket=platform.store.server.bucket, Key=f"{PREFIX}outcomes/{newest.id}/manifest.json"
    )
    expected = json.loads(body["Body"].read())["artifact"]["name"]
    faults = []
    told = ask(30)
    if told.status_code != 200:
        return "", [f"the server answers {told.status_code}: {told.text[:200]}"]
    answered = told.headers["x-intent-model"]
    if answered != expected:
        faults.append(f"the server uses {answered}, but the newest run accepted {expected}")
    registry = MlflowClient(get_settings().mlflow_tracking_url)
    champion = registry.get_model_version_by_alias(_project(newest), "champion")
    if champion.tags["intent.artifact"] != expected:
        faults.append(
            f"champion is {champion.tags['intent.artifact']}, but the newest run accepted "
            f"{expected}"
        )
    return answered, faults


def _check_mlflow(projects: set[str]) -> tuple[int, list[str]]:
    client = MlflowClient(get_settings().mlflow_tracking_url)
    faults, count = [], 0
    for project in sorted(projects):
        experiment = client.get_experiment_by_name(project)
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        if not runs:
            faults.append(f"MLflow has no run of {project}")
        for run in runs:
            if run.info.status not in _FINAL:
                faults.append(f"MLflow run {run.info.run_id} is {run.info.status}")
            elif run.info.status == "FINISHED" and "intent.verdict" not in run.data.tags:
                faults.append(f"MLflow run {run.info.run_id} has no verdict")
        count += len(runs)
    return count, faults


def ask(timeout_s: float) -> httpx.Response:
    """Send one request to the public address, like a caller's client."""
    settings = get_settings()
    body: dict[str, Any] = {
        "model": ALIAS,
        "messages": [{"role": "user", "content": "play Yesterday"}],
        "temperature": 0,
        "max_completion_tokens": 8,
    }
    headers = {"Authorization": f"Bearer {settings.read_inference_key()}"}
    url = f"{settings.endpoint}/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=timeout_s)


def answers() -> tuple[int, str]:
    """Return status and model of an answer; status 0 if no server answers."""
    with contextlib.suppress(httpx.HTTPError):
        told = ask(20)
        return told.status_code, told.headers.get("x-intent-model", "")
    return 0, ""
