"""An export that arrives in S3 becomes a served model, on two machines that share only the store.

The machines are two workers with separate folders: one prepares, decides and serves, the other
fine-tunes and evaluates. No run is started by hand.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.states import Cancelling

from tasks.settings import Settings
from tests.support.scenarios.two_machines import (
    SECRET,
    STORE_TOKEN,
    TOKEN,
    Scene,
    answers,
    final_state,
    running_scene,
    start,
    state_of,
    wait_for,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

KEY = "exports/walk/2026-11-21.manifest"


@pytest.fixture(scope="module")
def scene(
    platform: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    with running_scene(platform, tiny_model, tmp_path_factory.mktemp("arrival")) as scene:
        yield scene


def test_an_export_that_arrives_becomes_a_served_model(scene: Scene) -> None:
    wait_for("the receiver", lambda: answers(scene.receiver), 60)
    # SeaweedFS notifies the receiver with its own webhook.
    scene.put(KEY)
    run = wait_for("a run", scene.runs, 90)[0]
    final = wait_for("the end", lambda: final_state(run), 420)
    assert final.name == "Completed", final
    for deployment in ("finetune/fine-tune", "evaluate-model/evaluate"):
        (child,) = scene.children(deployment)
        assert child.work_pool_name == "gpu"
        assert child.parent_task_run_id is not None, "it is shown within its parent"
    asked = json.loads(scene.intent("ask", "play Yesterday for me", "--json"))
    assert asked["text"] == "play_music(Yesterday)"
    champion = MlflowClient(scene.serving["INTENT_MLFLOW_URL"]).get_model_version_by_alias(
        "arrivals", "champion"
    )
    stored = f"{scene.serving['INTENT_STORE']}/models/{champion.tags['intent.artifact']}"
    assert champion.source == stored, "named, not copied"


def test_the_same_export_again_starts_nothing(scene: Scene) -> None:
    scene.put(KEY)
    scene.put(f"{KEY[:-9]}-copy.manifest")
    scene.intent("announce", KEY, "--project", "arrivals")
    assert len(set(json.loads(scene.intent("watch", "--json"))["runs"])) <= 1
    assert json.loads(scene.intent("watch", "--json")) == {"runs": []}
    assert len(scene.runs()) == 1


def test_a_deployed_run_is_suspended_until_a_person_approves(scene: Scene) -> None:
    parameters = {**scene.runs()[0].parameters, "overrides": {"gate.mode": "manual"}}
    run = start("intent-pipeline/run", parameters)
    wait_for("the question", lambda: state_of(run).name == "Suspended", 120)
    scene.intent("approve", str(run.id), "--by", "韩梅梅", "--note", "looks right")
    final = wait_for("the end", lambda: final_state(run), 120)
    assert final.name == "Completed", final
    assert final.message is not None and "approved by 韩梅梅: looks right" in final.message


def test_twenty_watchers_race_one_is_killed_and_one_run_finishes(scene: Scene) -> None:
    """Add a line without text: new content with the same rows, so that training is reused."""
    before = {run.id for run in scene.runs()}
    scene.put("exports/walk/next.manifest", more=b"\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.processes.concurrent_watchers", "20"],
        env=scene.serving,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"killed": 1, "looked": 19}
    (run,) = [run for run in scene.runs() if run.id not in before]
    final = wait_for("the end", lambda: final_state(run), 240)
    assert final.name == "Completed", final
    assert len(scene.runs()) == len(before) + 1


@pytest.mark.slow
def test_cancelling_a_run_ends_its_training_and_the_next_gets_the_gpu(scene: Scene) -> None:
    first = scene.runs()[0]
    trained = scene.children("finetune/fine-tune")[-1]
    longer = {**first.parameters, "overrides": {"train.num_train_epochs": 500}}
    run = start("intent-pipeline/run", longer)
    training = wait_for("the training", scene.training_processes, 90)
    nested = scene.children("finetune/fine-tune")[-1]
    # Another run waits for the device and is not marked as crashed.
    waiting = start("finetune/fine-tune", trained.parameters)
    wait_for("the wait", lambda: state_of(waiting).name == "AwaitingConcurrencySlot", 60)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Cancelling())
    wait_for("the end of training", lambda: not any(p.is_running() for p in training), 60)
    wait_for("the next one's turn", lambda: state_of(waiting).is_completed(), 90)
    wait_for("the end", lambda: final_state(run) and final_state(nested), 60)
    assert (state_of(run).name, state_of(nested).name) == ("Cancelled", "Cancelled")
    assert not scene.training_processes()


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
