"""Two machines with workers that share only an S3 server, for tests of arriving exports."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment

from tasks.settings import CHECKOUT, Settings
from tests.support.builders.labeled_export import write_export
from tests.support.scenarios.pipeline_runs import recipe_for
from tests.support.servers.seaweedfs import REGION, Seaweed, free_ports, running_seaweed

TOKEN, SECRET = "token-of-the-sender-1", "secret-of-the-sender-2"
STORE_TOKEN = "token-of-the-store-3"


class Scene:
    """The S3 server, and the environments of the two machines."""

    def __init__(self, server: Seaweed, folder: Path, platform: Settings, ports: list[int]) -> None:
        self.server = server
        self.folder = folder
        self.gateway, self.receiver = ports
        shared = {
            **os.environ,
            # By default Prefect's workers poll every 10 s.
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            **server.full.environment(),
            "INTENT_STORE": f"s3://{server.bucket}/arrivals",
            "INTENT_S3_ENDPOINT_URL": server.url,
            "INTENT_S3_REGION": REGION,
            "INTENT_S3_ADDRESSING_STYLE": "path",
            "INTENT_PREFECT_URL": platform.prefect_api_url,
            "INTENT_MLFLOW_URL": platform.mlflow_tracking_url,
            "INTENT_MLFLOW_WEIGHTS": "store",
            "INTENT_PROJECTS": str(folder / "projects.yaml"),
            "INTENT_GATEWAY_PORT": str(self.gateway),
            "INTENT_RECEIVER_TOKEN": TOKEN,
            "INTENT_RECEIVER_SECRET": SECRET,
            "INTENT_RECEIVER_STORE_TOKEN": STORE_TOKEN,
        }
        self.serving = {**shared, "INTENT_HOME": str(folder / "serving" / "home")}
        self.training = {
            **shared,
            "INTENT_HOME": str(folder / "training" / "home"),
            "INTENT_SERVES_HERE": "false",
        }

    def intent(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flows", *arguments],
            env=self.serving,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def runs(self) -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=["project:arrivals"]))
            # The run that took the export has the tag, too.
            pipeline = FlowFilter(name=FlowFilterName(any_=["intent-pipeline"]))
            return client.read_flow_runs(flow_filter=pipeline, flow_run_filter=tagged)

    def children(self, deployment: str) -> list[FlowRun]:
        """Return the runs of a deployment, the newest last."""
        with get_client(sync_client=True) as client:
            only = DeploymentFilterId(any_=[client.read_deployment_by_name(deployment).id])
            runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=only))
        return sorted(runs, key=lambda run: run.created)

    def training_processes(self) -> list[psutil.Process]:
        """Return the training processes of the training machine."""
        home = self.training["INTENT_HOME"]
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if "intent_core.training" in (process.info["cmdline"] or ())
            and any(home in part for part in process.info["cmdline"])
        ]

    def put(self, key: str, more: bytes = b"") -> None:
        """Put an export into the bucket, without any notification."""
        path = self.folder / "export"
        write_export(path)
        body = path.read_bytes() + more
        self.server.client().put_object(Bucket=self.server.bucket, Key=f"arrivals/{key}", Body=body)


@contextlib.contextmanager
def running_scene(platform: Settings, tiny_model: Path, folder: Path) -> Iterator[Scene]:
    """Start everything and deploy `prefect.yaml`; SeaweedFS notifies the receiver of exports."""
    recipe = {**recipe_for(tiny_model), "project": "arrivals"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    project = {
        "exports": "exports/walk/",
        "recipe": str(folder / "recipe.yaml"),
        "unchanged_minutes": 0,
    }
    (folder / "projects.yaml").write_text(yaml.safe_dump({"arrivals": project}))
    ports = free_ports(2)
    webhook = {
        "endpoint": f"http://127.0.0.1:{ports[1]}/notifications",
        "bearer_token": STORE_TOKEN,
        "path_prefixes": "/buckets/models/arrivals/exports",
    }
    with running_seaweed(webhook) as server:
        scene = Scene(server, folder, platform, ports)
        scene.intent("up")
        with deployed(scene):
            yield scene
        scene.intent("down")
        left = subprocess.run(
            [sys.executable, "-m", "flows", "status", "--json"],
            env=scene.training,
            capture_output=True,
            text=True,
            check=False,
        )
        assert json.loads(left.stdout)["services"] == {}, "the training machine serves nothing"


@contextlib.contextmanager
def deployed(scene: Scene) -> Iterator[None]:
    """Deploy `prefect.yaml`; start a worker on each machine and the receiver."""
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    done = subprocess.run(
        [*prefect, "deploy", "--all"], cwd=CHECKOUT, env=scene.serving, capture_output=True
    )
    assert done.returncode == 0, done.stdout
    running = []
    for pool, environment in (("cpu", scene.serving), ("gpu", scene.training)):
        home = Path(environment["INTENT_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        command = [*prefect, "worker", "start", "--pool", pool, "--type", "process"]
        running.append(_start(command, environment, home.parent))
    receive = [sys.executable, "-m", "flows", "receive", "--port", str(scene.receiver)]
    running.append(_start(receive, scene.serving, scene.folder))
    try:
        yield
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.wait(60)


def _start(command: list[str], environment: dict[str, str], folder: Path) -> Any:
    log = (folder / f"{command[-1]}.log").open("wb")
    with log:
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)


def wait_for(what: str, condition: Any, timeout_s: float) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen within {timeout_s:.0f} s")


def start(deployment: str, parameters: dict[str, Any]) -> FlowRun:
    return cast(
        FlowRun, run_deployment(deployment, parameters=parameters, timeout=0, as_subflow=False)
    )


def state_of(run: FlowRun) -> State[Any]:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    assert state is not None
    return state


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def final_state(run: FlowRun) -> State[Any] | None:
    state = state_of(run)
    return state if state.is_final() else None
