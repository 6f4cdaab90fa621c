"""An export that arrives in S3 becomes a served model, on two machines that share only the store.

The machines are two workers with folders of their own: one prepares, decides and serves, the
other fine-tunes and evaluates. Nobody starts a run.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from labelled import write_export
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from seaweed import REGION, Seaweed, running_seaweed
from walking import recipe_for

from tasks.settings import CHECKOUT, Settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TOKEN, SECRET = "token-of-the-sender-1", "secret-of-the-sender-2"
STORE_TOKEN = "token-of-the-store-3"
KEY = "exports/walk/2026-11-21.manifest"


class Scene:
    """The S3 server, and the environments of the two machines."""

    def __init__(self, server: Seaweed, folder: Path, platform: Settings, ports: list[int]) -> None:
        self.server = server
        self.folder = folder
        self.gateway, self.receiver = ports
        shared = {
            **os.environ,
            **server.full.environment(),
            "INTENT_STORE": f"s3://{server.bucket}/arrivals",
            "INTENT_S3_ENDPOINT_URL": server.url,
            "INTENT_S3_REGION": REGION,
            "INTENT_S3_ADDRESSING_STYLE": "path",
            "INTENT_PREFECT_URL": platform.prefect_api_url,
            "INTENT_MLFLOW_URL": platform.mlflow_tracking_url,
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
            return client.read_flow_runs(flow_run_filter=tagged)

    def put(self, key: str, more: bytes = b"") -> None:
        """An export arrives in the bucket; nothing else is done."""
        path = self.folder / "export"
        write_export(path)
        body = path.read_bytes() + more
        self.server.client().put_object(
            Bucket=self.server.bucket, Key=f"arrivals/{key}", Body=body
        )


@pytest.fixture(scope="module")
def scene(
    platform: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    from conftest import free_ports

    folder = tmp_path_factory.mktemp("arrival")
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
    """`prefect.yaml` deployed, a worker on each machine, and the receiver."""
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
    raise AssertionError(f"{what} did not come within {timeout_s:.0f} s")


def test_an_export_that_arrives_becomes_a_served_model(scene: Scene) -> None:
    wait_for("the receiver", lambda: _answers(scene.receiver), 60)
    # SeaweedFS tells the receiver, by its own webhook.
    scene.put(KEY)
    run = wait_for("a run", scene.runs, 90)[0]
    final = wait_for("the end", lambda: _final(run), 420)
    assert final.name == "Completed", final
    asked = json.loads(scene.intent("ask", "play Yesterday for me", "--json"))
    assert asked["text"] == "play_music(Yesterday)"


def test_the_same_export_again_starts_nothing(scene: Scene) -> None:
    scene.put(KEY)
    scene.put(f"{KEY[:-9]}-copy.manifest")
    scene.intent("announce", KEY, "--project", "arrivals")
    assert len(set(json.loads(scene.intent("watch", "--json"))["runs"])) <= 1
    assert json.loads(scene.intent("watch", "--json")) == {"runs": []}
    assert len(scene.runs()) == 1


def test_twenty_watchers_race_one_is_killed_and_one_run_finishes(scene: Scene) -> None:
    """A line without text makes other content of the same rows, so that training is reused."""
    before = {run.id for run in scene.runs()}
    scene.put("exports/walk/next.manifest", more=b"\n")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "racing.py"), "20"],
        env=scene.serving,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"killed": 1, "looked": 19}
    (run,) = [run for run in scene.runs() if run.id not in before]
    final = wait_for("the end", lambda: _final(run), 240)
    assert final.name == "Completed", final
    assert len(scene.runs()) == len(before) + 1


def test_the_machines_share_nothing_but_the_store(scene: Scene) -> None:
    names = {
        one["Key"].split("/")[1]
        for one in scene.server.client()
        .list_objects_v2(Bucket=scene.server.bucket, Prefix="arrivals/")
        .get("Contents", [])
    }
    assert {"datasets", "evaluations", "exports", "ledger", "models", "snapshots"} <= names
    serving, training = scene.folder / "serving" / "home", scene.folder / "training" / "home"
    assert not (serving / "work" / "trainings").exists()
    assert (training / "work" / "trainings").exists()


def test_no_secret_is_in_any_log_or_run(scene: Scene) -> None:
    secrets = [TOKEN, SECRET, STORE_TOKEN, scene.server.full.secret_key]
    logs = [path for path in scene.folder.rglob("*") if path.suffix in (".log", ".json", ".yaml")]
    assert any(path.suffix == ".log" for path in logs)
    for path in logs:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not any(secret in text for secret in secrets), path
        assert "X-Amz-Signature" not in text, path
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs():
            assert not any(secret in run.model_dump_json() for secret in secrets)
        for entry in client.read_logs():
            assert not any(secret in entry.message for secret in secrets)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def _final(run: FlowRun) -> Any:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    return state if state and state.is_final() else None
