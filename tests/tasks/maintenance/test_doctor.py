"""`intent doctor` on the leftovers of crashes, real ones where possible."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Completed, Running
from typer.testing import CliRunner

from flows.cli.main import app
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from tasks.maintenance.checks import Diagnosis, Examination
from tasks.maintenance.doctor import CHECKS, examine
from tasks.orchestration.run_liveness import hold, list_held
from tasks.serving.state import ServedModel, ServingState, write_state
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store
from tasks.system.processes import (
    ProcessRecord,
    in_use,
    start_process,
    stop_process,
)
from tasks.tracking.registry import ARTIFACT_TAG, MISSING_TAG, REMOVED_TAG, register_candidate
from tests.support.faults.killed_runs import environment_of, home_beside, kill_a_run

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]
_BEGUN = "begun-by-a-test"
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def home(platform: Settings, tmp_path: Path) -> Settings:
    return home_beside(platform, tmp_path / "home", spare_disk_gb=0)


@pytest.fixture
def prefect(platform: Settings) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client
        for run in client.read_flow_runs():
            if run.name.startswith(_BEGUN) and run.state and not run.state.is_final():
                client.set_flow_run_state(run.id, Completed(), force=True)


def look(settings: Settings, check: str, *, dry_run: bool = False) -> list[Diagnosis]:
    """Return the findings of that check; runs the checks first that it depends on."""
    needed = {
        "mlflow-runs": ("prefect-runs", "mlflow-runs"),
        "orphans": ("trainings", "model-servers"),
    }
    examination = Examination(settings, dry_run=dry_run)
    found = [one for name in needed.get(check, (check,)) for one in CHECKS[name](examination)]
    return [one for one in found if one.check == check]


def state_of(prefect: SyncPrefectClient, run_id: object) -> str:
    state = prefect.read_flow_run(UUID(str(run_id))).state
    assert state is not None
    return state.type.value


def begin_run(prefect: SyncPrefectClient, name: str = "finetune") -> UUID:
    """Create a run that the server shows as Running, without a process of this home."""
    run = prefect.create_flow_run(flow(name=name)(lambda: None), name=f"{_BEGUN}-{name}")
    prefect.set_flow_run_state(run.id, Running(), force=True)
    return run.id


def test_a_killed_run_is_marked_here_and_in_mlflow_and_no_other_is(
    home: Settings, platform: Settings, prefect: SyncPrefectClient
) -> None:
    whole, step, tracked = kill_a_run(home)
    elsewhere, alive = begin_run(prefect), begin_run(prefect)
    hold(home, str(alive))
    mlflow = MlflowClient(platform.mlflow_tracking_url)
    assert {one.outcome for one in look(home, "prefect-runs", dry_run=True)} == {"would repair"}
    assert state_of(prefect, whole) == "RUNNING"
    (said,) = look(home, "mlflow-runs", dry_run=True)
    assert tracked in said.what and mlflow.get_run(tracked).info.status == "RUNNING"

    found = list(examine(home))
    crashed = [one for one in found if one.check == "prefect-runs"]
    assert {one.outcome for one in crashed} == {"repaired"}
    assert whole in crashed[0].what and step in crashed[1].what and len(crashed) == 2
    assert [state_of(prefect, run) for run in (whole, step)] == ["CRASHED"] * 2
    assert [state_of(prefect, run) for run in (elsewhere, alive)] == ["RUNNING"] * 2
    assert mlflow.get_run(tracked).info.status == "KILLED"
    assert list_held(home) == {str(alive): True}
    assert [one for one in examine(home) if one.outcome != "note"] == []


@pytest.mark.slow
def test_runs_of_a_worker_that_is_long_gone(home: Settings, prefect: SyncPrefectClient) -> None:
    prefect.create_work_pool(WorkPoolCreate(name="doctored", type="process"))
    runs = {}
    for worker in ("gone", "there"):
        runs[worker] = begin_run(prefect)
        seconds = 1 if worker == "gone" else 600
        prefect._client.post(
            "/work_pools/doctored/workers/heartbeat",
            json={"name": worker, "heartbeat_interval_seconds": seconds},
        ).raise_for_status()
        labels = {"prefect.worker.name": worker, "prefect.work-pool.name": "doctored"}
        prefect.update_flow_run_labels(runs[worker], labels)
    assert look(home, "prefect-runs") == []
    deadline = time.monotonic() + 60
    brief = home.model_copy(update={"worker_gone_hours": 1 / 3600})
    while not (found := look(brief, "prefect-runs")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert [state_of(prefect, runs[one]) for one in ("gone", "there")] == ["CRASHED", "RUNNING"]
    assert "its worker gone has been offline since" in found[0].what


def artifact(name: str) -> ModelArtifact:
    return ModelArtifact(
        name=name,
        digest=name[7:] * 5,
        uri=f"models/{name}",
        method="lora",
        base_model="/nowhere",
        base_model_digest="0" * 64,
        dataset_fingerprint="drift",
        train_fingerprint="none",
        system_prompt="",
    )


def test_the_champion_follows_what_is_served_and_missing_models_are_tagged(home: Settings) -> None:
    mlflow = MlflowClient(home.mlflow_url)
    run = mlflow.create_run(mlflow.create_experiment("drift")).info.run_id
    served, other = artifact("intent-0000000000d1"), artifact("intent-0000000000d2")
    versions = [
        register_candidate(mlflow, "drift", run, one, f"s3://b/{one.uri}")
        for one in (served, other)
    ]
    get_store(home).put(f"{served.uri}/manifest.json", served.model_dump_json().encode())
    mlflow.set_registered_model_alias("drift", "champion", versions[1])
    current = ServedModel(
        artifact=served,
        serve=ServeConfig(),
        endpoint="http://127.0.0.1/v1",
        alias="intent",
        version=versions[0],
        project="drift",
        since=datetime.now(UTC),
    )
    write_state(home, ServingState(current=current))
    assert [one.outcome for one in look(home, "champion", dry_run=True)] == ["would repair"]
    assert mlflow.get_model_version_by_alias("drift", "champion").version == versions[1]
    assert [one.outcome for one in look(home, "champion")] == ["repaired"]
    assert look(home, "champion") == []
    assert mlflow.get_model_version_by_alias("drift", "champion").version == versions[0]

    # Their dataset is not in this store, so they belong to another store.
    assert look(home, "versions") == []
    get_store(home).put("datasets/drift/manifest.json", b"{}")
    (left,) = look(home, "versions")
    assert left.outcome == "manual fix" and other.name in left.what
    assert MISSING_TAG in mlflow.get_model_version("drift", versions[1]).tags
    assert MISSING_TAG not in mlflow.get_model_version("drift", versions[0]).tags
    get_store(home).put(f"{other.uri}/manifest.json", other.model_dump_json().encode())
    assert [one.outcome for one in look(home, "versions")] == ["repaired"]
    assert MISSING_TAG not in mlflow.get_model_version("drift", versions[1]).tags


def test_orphans_are_stopped_and_processes_in_use_are_not(home: Settings) -> None:
    folder = home.layout.processes
    trainings = home.home / "work" / "trainings"
    jobs = [trainings / name / "job.json" for name in ("orphan", "waited")]
    for job in jobs:
        job.parent.mkdir(parents=True)
    # The same command line as a training, but it only sleeps.
    orphan, waited = (
        subprocess.Popen([*SLEEPER, "-m", "intent_core.training", str(job), "1"]) for job in jobs
    )
    idle = start_process(folder, "vllm-intent-000000000001-aaaaaa", SLEEPER, 1)
    busy = start_process(folder, "vllm-intent-000000000002-aaaaaa", SLEEPER, 1)
    aliases = str(home.home / "aliases" / "vllm-x.json")
    lost = start_process(folder, "vllm-lost", SLEEPER, 1, INTENT_ALIASES_FILE=aliases)
    (folder / "vllm-lost.json").unlink()
    try:
        with in_use(folder, "training-waited"), in_use(folder, busy.name):
            assert len(look(home, "orphans", dry_run=True)) == 3
            assert all(psutil.pid_exists(one.pid) for one in (orphan, idle, lost))
            found = look(home, "orphans")
            assert [one.outcome for one in found] == ["repaired"] * 3
            assert [one.poll() is None for one in (orphan, waited)] == [False, True]
            assert [one.is_alive() for one in (idle, busy, lost)] == [False, True, False]
            assert look(home, "orphans") == []
    finally:
        for process in (orphan, waited):
            process.kill()
            process.wait()
        for record in (idle, busy, lost):
            stop_process(folder, record)


def test_records_of_what_is_gone(home: Settings) -> None:
    folder = home.layout.processes
    folder.mkdir(parents=True)
    for name in ("gateway", "vllm-intent-000000000001-aaaaaa"):
        record = ProcessRecord(name=name, pid=1, created=1.0, port=1, log=folder / f"{name}.log")
        (folder / f"{name}.json").write_text(record.model_dump_json())
    down, old = look(home, "services")
    assert (down.outcome, old.outcome) == ("manual fix", "repaired")
    assert "gateway" in down.what and "`intent up`" in down.action
    assert [path.stem for path in folder.glob("*.json")] == ["gateway"]


def test_the_command_says_what_is_left_in_words_and_in_json(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTENT_HOME", str(home.home))
    monkeypatch.setenv("INTENT_PREFECT_URL", home.prefect_url)
    monkeypatch.setenv("INTENT_MLFLOW_URL", home.mlflow_url)

    def doctor(spare: str, *arguments: str, code: int) -> str:
        monkeypatch.setenv("INTENT_SPARE_DISK_GB", spare)
        get_settings.cache_clear()
        done = CliRunner().invoke(app, ["doctor", *arguments])
        assert done.exit_code == code, done.output
        return done.stdout

    doctor("0", "--dry-run", code=0)
    told = json.loads(doctor("1e9", "--json", code=4))
    assert told["left"] == 1
    (disk,) = [one for one in told["findings"] if one["outcome"] == "manual fix"]
    assert disk["check"] == "disk" and "GB free, and the next run needs" in disk["what"]
    assert "manual fix" in doctor("1e9", code=4)


@pytest.mark.slow
def test_a_rejected_model_is_cleaned_once_nothing_runs_and_is_not_called_missing(
    home: Settings, prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in prefect.read_flow_runs():
        if run.state and not run.state.is_final():
            prefect.set_flow_run_state(run.id, Completed(), force=True)
    mlflow, store = MlflowClient(home.mlflow_url), get_store(home)
    run_id = mlflow.create_run(mlflow.create_experiment("cleaned")).info.run_id
    names = [f"intent-0000000000c{number}" for number in range(3)]
    for name in names:  # the third is the candidate, and the second awaits approval
        made = artifact(name)
        version = register_candidate(mlflow, "cleaned", run_id, made, f"s3://b/{made.uri}")
        store.put(f"{made.uri}/weights", b"x")
        store.put(f"{made.uri}/manifest.json", made.model_dump_json().encode())
        if name == names[1]:
            mlflow.set_model_version_tag("cleaned", version, "intent.verdict", "waits")
    store.put("datasets/drift/manifest.json", b"{}")
    for name, value in environment_of(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INTENT_KEEP_CANDIDATE_DAYS", "0")
    get_settings.cache_clear()

    def clean(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["clean", "--json", *arguments])
        assert done.exit_code == 0, done.output
        told: dict[str, object] = json.loads(done.stdout)
        return told

    busy = begin_run(prefect)
    assert "a run is in progress" in str(clean()["store_left_alone"])
    prefect.set_flow_run_state(busy, Completed(), force=True)
    told = clean("--dry-run")
    assert names[0] in str(told["removed"]) and int(str(told["bytes"])) > 1
    assert store.stat(f"models/{names[0]}/weights")
    assert clean() == told
    left = [name for name in names if store.stat(f"models/{name}/weights")]
    assert left == names[1:]
    assert [one for one in look(home, "versions") if "cleaned" in one.what] == []
    (version, *_) = mlflow.search_model_versions(f"tags.`{ARTIFACT_TAG}` = '{names[0]}'")
    assert REMOVED_TAG in version.tags
