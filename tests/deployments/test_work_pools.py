"""The base job templates are consistent, have readable fields, and the server accepts them."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import prefect
import pytest
from jsonschema import Draft202012Validator
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.templating import find_placeholders
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessWorker

from tasks.settings import Settings

FOLDER = Path(__file__).parents[2] / "deployments" / "work_pools"
KNOWN_TYPES = (
    Path(prefect.__file__).parent
    / "server/api/collections_data/views/aggregate-worker-metadata.json"
)
TYPES = ("process", "docker", "kubernetes")
# Fields of Prefect's templates that ours leave out: a GPU needs no privileged container, a training
# no time limit, and swap follows the memory limit.
LEFT_OUT = {
    # With a command in the form, a run could execute anything as the worker.
    "process": {"command"},
    "docker": {"privileged", "container_wait_timeout", "memswap_limit"},
}
FLOW = """
import json, os
from pathlib import Path
from prefect import flow

@flow
def look_around(answer: str) -> None:
    names = ("GREETING", "TOKEN", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY")
    seen = {"folder": os.getcwd(), **{name: os.environ.get(name) for name in names}}
    Path(answer).write_text(json.dumps(seen))
"""


class JobConfiguration(BaseJobConfiguration, extra="allow"):
    """Job configuration of any worker type, without the worker's package."""


def read_template(kind: str) -> dict[str, Any]:
    template: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return template


def fill_in(kind: str, **job_variables: Any) -> dict[str, Any]:
    """Fill in the template with its defaults and job variables, with Prefect's code."""
    filling: Any = JobConfiguration.from_template_and_values(
        base_job_template=read_template(kind), values=job_variables
    )
    job: JobConfiguration = asyncio.run(filling)
    return job.model_dump()


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["job_manifest"]["spec"]["template"]["spec"]
    return pod


def read_prefects_own(kind: str) -> dict[str, Any]:
    """Read Prefect's template from its file; the server would query the internet first."""
    types = json.loads(KNOWN_TYPES.read_text(encoding="utf-8"))
    (found,) = [package[kind] for package in types.values() if kind in package]
    template: dict[str, Any] = found["default_base_job_configuration"]
    return template


@pytest.fixture(params=TYPES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(platform: Settings) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def flow_id(client: SyncPrefectClient) -> Iterator[UUID]:
    made = client.create_flow_from_name("look-around")
    yield made
    client.delete_flow(made)


@pytest.fixture
def pool(client: SyncPrefectClient, kind: str) -> Iterator[WorkPool]:
    """Create a pool of that type from the file, as `--base-job-template` does."""
    name = f"from-{kind}-template"
    made = WorkPoolCreate(name=name, type=kind, base_job_template=read_template(kind))
    yield client.create_work_pool(made)
    client.delete_work_pool(name)


def test_there_is_one_template_for_each_type() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(TYPES)


def test_what_prefects_own_template_takes_ours_takes(kind: str) -> None:
    theirs, ours = read_prefects_own(kind), read_template(kind)
    left_out = LEFT_OUT.get(kind, set())
    assert set(theirs["variables"]["properties"]) - left_out <= set(ours["variables"]["properties"])
    assert set(theirs["job_configuration"]) - left_out <= set(ours["job_configuration"])


def test_variables_and_placeholders_are_the_same(kind: str) -> None:
    template = read_template(kind)
    placeholders = {p.name for p in find_placeholders(template["job_configuration"])}
    # Prefect silently drops variables without a placeholder.
    assert placeholders == set(template["variables"]["properties"])
    # A worker reads `env` here, not only in the manifest.
    assert template["job_configuration"]["env"] == "{{ env }}"


def test_every_default_satisfies_its_schema(kind: str) -> None:
    schema = read_template(kind)["variables"]
    Draft202012Validator.check_schema(schema)
    defaults = {name: one["default"] for name, one in schema["properties"].items()}
    assert list(Draft202012Validator(schema).iter_errors(defaults)) == []


def test_people_can_read_every_variable(kind: str) -> None:
    titles = []
    for name, variable in read_template(kind)["variables"]["properties"].items():
        assert variable["description"].endswith("."), name
        assert "`" not in variable["title"], name
        titles.append(variable["title"])
    assert len(set(titles)) == len(titles), "two fields of the form with one title"


def test_no_secret_stands_in_a_file(kind: str) -> None:
    properties = read_template(kind)["variables"]["properties"]
    for name, value in properties["env"]["default"].items():
        assert not re.search("KEY|SECRET|TOKEN|PASSWORD", name)
        assert "@" not in value, "a URL with a login"
    where = "secret_name" if kind == "kubernetes" else "env"
    assert "secret" in properties[where]["description"].lower(), "says how to refer to one"


def test_no_placeholder_is_left_over(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTENT_MLFLOW_URL", "http://mlflow.example:5000")
    job = fill_in(kind, env={"INTENT_FINETUNE_DEPLOYMENT": "finetune/fine-tune"})
    assert find_placeholders(job) == set()
    assert job["env"]["INTENT_FINETUNE_DEPLOYMENT"] == "finetune/fine-tune"
    assert job["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30", "added to, not replaced"
    if kind != "process":  # its runs have the worker's environment
        assert job["env"]["INTENT_MLFLOW_URL"] == "http://mlflow.example:5000"


def test_docker_asks_for_a_gpu_and_shared_memory() -> None:
    arguments = fill_in("docker")["container_create_kwargs"]
    (request,) = arguments["device_requests"]
    assert (request["driver"], request["count"]) == ("nvidia", 1)
    assert {"compute", "utility"} <= set(request["capabilities"][0]), "CUDA and nvidia-smi"
    assert arguments["shm_size"] == "8g"
    assert arguments["init"] is True, "signals reach the run, and its children are reaped"
    assert fill_in("docker", device_requests=[])["container_create_kwargs"]["device_requests"] == []


def test_docker_keeps_what_must_outlive_a_container() -> None:
    job = fill_in("docker")
    folders = [Path(volume.split(":")[1]) for volume in job["volumes"]]
    store = Path(job["env"]["INTENT_STORE"].removeprefix("file://"))
    assert any(store.is_relative_to(folder) for folder in folders)
    assert {Path(job["env"]["INTENT_HOME"]) / name for name in ("work", "cache")} <= set(folders)
    # If enabled, the container is deleted before the worker reads its exit code.
    assert job["auto_remove"] is False


def test_kubernetes_gives_a_pod_its_gpu_once() -> None:
    job = fill_in("kubernetes")
    spec = job["job_manifest"]["spec"]
    assert spec["backoffLimit"] == 0, "Prefect does the retries"
    assert spec["ttlSecondsAfterFinished"] == 86400
    limits = pod_of(job)["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    assert [one["key"] for one in pod_of(job)["tolerations"]] == ["nvidia.com/gpu"]
    assert job["job_manifest"]["metadata"]["namespace"] == job["namespace"]
    on_cpu = pod_of(fill_in("kubernetes", gpu_count=0, tolerations=[]))
    assert on_cpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 0
    assert on_cpu["tolerations"] == []


def test_kubernetes_mounts_what_it_declares() -> None:
    job = fill_in("kubernetes", store_claim="nas", shm_size="2Gi")
    pod = pod_of(job)
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    store = Path(job["env"]["INTENT_STORE"].removeprefix("file://"))
    (name,) = {name for path, name in mounts.items() if store.is_relative_to(path)}
    assert volumes[name]["persistentVolumeClaim"] == {"claimName": "nas"}
    assert f"{job['env']['INTENT_HOME']}/work" in mounts, "interrupted trainings go on elsewhere"


def test_kubernetes_takes_secrets_by_reference() -> None:
    (container,) = pod_of(fill_in("kubernetes", secret_name="ours"))["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "ours", "optional": True}}]


def test_an_empty_command_is_left_to_the_worker() -> None:
    (container,) = pod_of(fill_in("kubernetes"))["containers"]
    assert "args" not in container
    assert fill_in("docker")["command"] is None


@pytest.mark.service
def test_the_server_makes_a_pool_of_it(
    client: SyncPrefectClient, pool: WorkPool, kind: str
) -> None:
    found = client.read_work_pool(pool.name)
    assert found.type == kind
    assert found.base_job_template == read_template(kind)


@pytest.mark.service
@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        ("process", "stream_output", "perhaps"),
        ("docker", "device_requests", [{"driver": "nvidia", "count": "all"}]),
        ("docker", "shm_size", "eight"),
        ("kubernetes", "gpu_count", -1),
    ],
    indirect=["kind"],
)
def test_a_deployment_with_a_wrong_variable_is_refused_by_its_name(
    client: SyncPrefectClient, pool: WorkPool, flow_id: UUID, variable: str, value: Any
) -> None:
    with pytest.raises(PrefectHTTPStatusError, match=variable):
        client.create_deployment(
            flow_id, "wrong", work_pool_name=pool.name, job_variables={variable: value}
        )


@pytest.mark.flow
@pytest.mark.parametrize("kind", ["process"], indirect=True)
def test_a_process_worker_runs_a_deployment(
    client: SyncPrefectClient, pool: WorkPool, flow_id: UUID, tmp_path: Path
) -> None:
    (tmp_path / "looking.py").write_text(FLOW)
    folder = tmp_path / "folder"
    folder.mkdir()
    Secret(value="kept").save("work-pool-test", overwrite=True)
    reference = "{{ prefect.blocks.secret.work-pool-test }}"
    deployment = client.create_deployment(
        flow_id,
        "here",
        entrypoint="looking.look_around",
        work_pool_name=pool.name,
        pull_steps=[],
        job_variables={
            "working_dir": str(folder),
            "env": {"GREETING": "hello", "TOKEN": reference, "PYTHONPATH": str(tmp_path)},
        },
    )
    answer = tmp_path / "answer.json"
    run = client.create_flow_run_from_deployment(deployment, parameters={"answer": str(answer)})

    async def work_once() -> None:
        async with ProcessWorker(work_pool_name=pool.name) as worker:
            await worker.get_and_submit_flow_runs()  # leaving the block waits for the run

    asyncio.run(work_once())
    state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_completed(), state.message
    assert json.loads(answer.read_text()) == {
        "folder": str(folder),
        "GREETING": "hello",
        "TOKEN": "kept",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    shown = client.read_deployment(deployment).job_variables["env"]
    assert shown["TOKEN"] == reference, "the UI shows the reference"
