"""The manifests match settings, commands, recipes, versions and the gpu pool's template."""

import json
import re
import tomllib
from typing import Any

import pytest
import typer
import yaml

from flows.cli.main import app
from flows.intake.projects import load_projects
from flows.parameters import list_recipes, load_recipe
from intent_core.recipe.config import ServeConfig
from tasks.orchestration.work_pools import POOLS
from tasks.settings import CHECKOUT, Settings
from tests.support.deployments.kubernetes_manifests import (
    COMPONENTS,
    FOLDER,
    KUSTOMIZATIONS,
    NAMESPACE,
    OVERLAYS,
    containers_of,
    environment_of,
    rendered,
)
from tests.support.deployments.kustomize import Document, Objects, pods_of, read_documents

WORK_POOLS = CHECKOUT / "deployments" / "work_pools"
TEMPLATE = json.loads((WORK_POOLS / "kubernetes.json").read_text(encoding="utf-8"))
POOL: dict[str, Any] = {
    name: one["default"] for name, one in TEMPLATE["variables"]["properties"].items()
}
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SETTINGS = {f"INTENT_{name.upper()}" for name in Settings.model_fields}
# For each of two vLLM processes on one GPU.
MOST_OF_A_GPU = 0.45


@pytest.fixture(params=OVERLAYS + COMPONENTS)
def objects(request: pytest.FixtureRequest) -> Objects:
    return rendered(request.param)


def container_of(objects: Objects, name: str) -> Document:
    (container,) = pods_of(objects)[name]["spec"]["containers"]
    found: Document = container
    return found


def test_variables_are_settings(objects: Objects) -> None:
    for container, _ in containers_of(objects):
        ours = {n for n in environment_of(container, objects) if n.startswith("INTENT_")}
        assert ours <= SETTINGS


def test_services_set_no_setting_by_their_names(objects: Objects) -> None:
    for container, pod in containers_of(objects):
        assert pod["enableServiceLinks"] is False, container["name"]
    # Service links stay enabled in jobs of the gpu pool.
    for kind, name in objects:
        if kind == "Service":
            prefix = name.upper().replace("-", "_")
            assert not {f"{prefix}_PORT", f"{prefix}_SERVICE_HOST", f"{prefix}_HOST"} & SETTINGS


def test_the_settings_are_taken() -> None:
    content = rendered("cpu")["ConfigMap", "intent-settings"]["data"]
    fields = {name.removeprefix("INTENT_").lower(): value for name, value in content.items()}
    settings = Settings(**{name: value for name, value in fields.items() if value})
    assert settings.store_uri.startswith(("s3://", "oss://")), "replicas share nothing else"
    assert content["PREFECT_API_URL"] == settings.prefect_api_url
    assert settings.mlflow_url, "none of the embedded servers runs in a pod"
    assert load_projects(FOLDER / "base" / "projects.yaml") == {}


def test_commands_are_ours(objects: Objects) -> None:
    group = typer.main.get_command(app)
    commands: dict[str, Any] = vars(group)["commands"]
    for container, _ in containers_of(objects):
        program, *arguments = container["command"]
        if program == "intent":
            known = {option for one in commands[arguments[0]].params for option in one.opts}
            given = {one for one in arguments if one.startswith("--")}
            assert given <= known
        else:
            assert [program, *arguments[:3]] == ["prefect", "--no-prompt", "worker", "start"]
            assert arguments[arguments.index("--pool") + 1] in POOLS
            kind = arguments[arguments.index("--type") + 1]
            assert (WORK_POOLS / f"{kind}.json").exists()


def test_an_image_is_named_in_one_place_with_our_version() -> None:
    tags = {
        "intent-pipeline-serve": {PROJECT["version"], f"{PROJECT['version']}-cpu"},
        "intent-pipeline-worker": {PROJECT["version"]},
        "prefecthq/prefect": {f"{prefect_version()}-python3.11-kubernetes"},
    }
    for path in KUSTOMIZATIONS:
        (entry,) = read_documents(path)
        for image in entry.get("images", []):
            assert image["newTag"] in tags[image["name"]], path
        for name in entry.get("resources", []):
            if (path.parent / name).is_file():
                text = (path.parent / name).read_text(encoding="utf-8")
                assert set(re.findall(r"image: (.+)", text)) <= set(tags), "without a tag"
    for name in OVERLAYS + COMPONENTS:
        for container, _ in containers_of(rendered(name)):
            image, _, tag = container["image"].partition(":")
            assert tag in tags[image]


def prefect_version() -> str:
    (pin,) = [one for one in PROJECT["dependencies"] if one.startswith("prefect==")]
    return str(pin).removeprefix("prefect==")


def test_the_gpu_pool_finds_what_it_names() -> None:
    objects = rendered("gpu-pool")
    assert ("Namespace", POOL["namespace"]) in objects
    assert POOL["namespace"] == NAMESPACE
    claim = objects["PersistentVolumeClaim", POOL["store_claim"]]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    references = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for container, _ in containers_of(objects)
        for variable in container["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert references == {POOL["secret_name"]}
    for kind, name in objects:
        if kind not in ("Namespace",):
            assert objects[kind, name]["metadata"]["namespace"] == NAMESPACE
    # Jobs get these variables from the worker that creates them.
    taken = set(re.findall(r"\{\{ \$(\w+) \}\}", json.dumps(POOL["env"])))
    worker = environment_of(container_of(objects, "intent-gpu-worker"), objects)
    assert taken
    assert taken <= set(worker)


def test_the_gpu_worker_makes_jobs_in_its_namespace_and_no_more() -> None:
    objects = rendered("gpu-pool")
    assert not [kind for kind, _ in objects if kind.startswith("ClusterRole")]
    binding = objects["RoleBinding", "intent-gpu-worker"]
    assert ("Role", binding["roleRef"]["name"]) in objects
    (subject,) = binding["subjects"]
    assert subject["namespace"] == NAMESPACE
    pod = pods_of(objects)["intent-gpu-worker"]["spec"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", pod["serviceAccountName"])
    rules = objects["Role", "intent-gpu-worker"]["rules"]
    assert not {"secrets", "*"} & {one for rule in rules for one in rule["resources"]}
    assert not [rule for rule in rules if "*" in rule["verbs"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_replica_is_turned_to_when_it_serves(name: str) -> None:
    objects = rendered(name)
    serve, deployment = container_of(objects, "intent-serve"), objects["Deployment", "intent-serve"]
    environment = environment_of(serve, objects)
    (port,) = serve["ports"]
    assert environment["INTENT_GATEWAY_PORT"] == str(port["containerPort"])
    assert environment["INTENT_GATEWAY_HOST"] == "0.0.0.0"
    assert serve["readinessProbe"]["httpGet"]["path"] == "/gateway/ready"
    # These probes restart a replica, which must not happen while it waits for its first model.
    for probe in ("startupProbe", "livenessProbe"):
        assert serve[probe]["httpGet"]["path"] == "/gateway/health"
    live = serve["livenessProbe"]
    assert live["failureThreshold"] * live["periodSeconds"] >= 300
    spec = deployment["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
    (_, wait) = serve["lifecycle"]["preStop"]["exec"]["command"]
    assert int(wait) + 60 <= grace, "requests under way have a minute"


@pytest.mark.parametrize(("name", "gpus"), [("adapter", "1"), ("merged", "1"), ("cpu", None)])
def test_only_who_serves_has_a_gpu(name: str, gpus: str | None) -> None:
    for container, pod in containers_of(rendered(name)):
        has = gpus if container["name"] == "serve" else None
        assert container["resources"]["limits"].get("nvidia.com/gpu") == has
        tolerated = [one["key"] for one in pod.get("tolerations", [])]
        assert tolerated == (["nvidia.com/gpu"] if has else [])


def test_two_models_fit_on_a_gpu_while_a_promotion_lasts() -> None:
    assert ServeConfig().gpu_memory_utilization <= MOST_OF_A_GPU
    for recipe in list_recipes():
        serve = load_recipe(recipe).serve
        assert serve.mode == "adapter" or serve.gpu_memory_utilization <= MOST_OF_A_GPU, recipe


def test_nobody_comes_in_but_callers(objects: Objects) -> None:
    closed = objects["NetworkPolicy", "deny-ingress"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress"]}
    opened = {name for kind, name in objects if kind == "NetworkPolicy"} - {"deny-ingress"}
    monitored = {"intent-serve-metrics"} if ("ServiceMonitor", "intent-serve") in objects else set()
    assert opened == {"intent-serve", "intent-receiver"} & set(pods_of(objects)) | monitored


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_overlay_says_who_calls(name: str) -> None:
    (rule,) = rendered(name)["NetworkPolicy", "intent-serve"]["spec"]["ingress"]
    elsewhere = {"namespaceSelector": {"matchLabels": {"intent-caller": "true"}}}
    assert rule["from"] == [{"podSelector": {}}, *([elsewhere] if name != "cpu" else [])]


def test_one_receiver_at_a_time() -> None:
    spec = rendered("receiver")["Deployment", "intent-receiver"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_a_claim_takes_the_place_of_the_nodes_disk() -> None:
    volumes = pods_of(rendered("home-claim"))["intent-serve"]["spec"]["volumes"]
    (home,) = [volume for volume in volumes if volume["name"] == "home"]
    assert set(home) == {"name", "ephemeral"}


def test_prometheus_is_let_in_where_it_scrapes() -> None:
    objects = rendered("monitoring")
    monitor = objects["ServiceMonitor", "intent-serve"]["spec"]
    service = objects["Service", "intent-serve"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (port,), (endpoint,) = service["spec"]["ports"], monitor["endpoints"]
    assert endpoint["port"] == port["name"]
    # Alerts and dashboard use this job name.
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "intent"
    references = [
        variable["valueFrom"]["secretKeyRef"]
        for container, _ in containers_of(objects)
        for variable in container["env"]
        if variable["name"] == "INTENT_API_KEY"
    ]
    assert endpoint["authorization"]["credentials"] in references
    (rule,) = objects["NetworkPolicy", "intent-serve-metrics"]["spec"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"intent-monitor": "true"}}}]


def test_the_autoscaler_alone_says_how_many() -> None:
    objects = rendered("autoscaling")
    scaler = objects["HorizontalPodAutoscaler", "intent-serve"]["spec"]
    target = scaler["scaleTargetRef"]
    deployment = objects[target["kind"], target["name"]]
    assert deployment["apiVersion"] == target["apiVersion"]
    assert "replicas" not in deployment["spec"]
    # A drain can evict one replica; another must remain to answer.
    assert 2 <= scaler["minReplicas"] <= scaler["maxReplicas"]
    (metric,) = scaler["metrics"]
    adapter = CHECKOUT / "deployments" / "monitoring" / "prometheus-adapter.yaml"
    (rule,) = yaml.safe_load(adapter.read_text(encoding="utf-8"))["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
