"""The Kubernetes manifests are valid against the API's schemas and consistent."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pydantic
import pytest
import yaml

from tests.support.deployments.kubernetes_manifests import (
    COMPONENTS,
    EXAMPLE,
    FOLDER,
    KUSTOMIZATIONS,
    NAMESPACE,
    OVERLAYS,
    containers_of,
    environment_of,
    rendered,
)
from tests.support.deployments.kubernetes_schemas import KUBERNETES, validate
from tests.support.deployments.kustomize import MERGED_BY, Objects, name_of, pods_of, read_documents


@pytest.fixture(params=OVERLAYS + COMPONENTS)
def objects(request: pytest.FixtureRequest) -> Objects:
    return rendered(request.param)


def read_quantity(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(m|Mi|Gi|)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 1e-3, "": 1, "Mi": 2**20, "Gi": 2**30}[unit]


def is_part(part: dict[str, str], whole: dict[str, str]) -> bool:
    return part.items() <= whole.items()


def test_every_file_is_in_use_and_every_reference_leads_to_one() -> None:
    used = {EXAMPLE, *KUSTOMIZATIONS}
    for path in KUSTOMIZATIONS:
        (entry,) = read_documents(path)
        named = [*entry.get("resources", []), *entry.get("components", [])]
        named += [patch["path"] for patch in entry.get("patches", [])]
        for generator in entry.get("configMapGenerator", []):
            named += generator.get("envs", []) + generator.get("files", [])
        for name in named:
            assert (path.parent / name).exists(), f"{path}: {name}"
            used.add((path.parent / name).resolve())
    assert used >= {path for path in FOLDER.rglob("*.*") if path.suffix in (".yaml", ".env")}
    assert {path.parent.name for path in KUSTOMIZATIONS} == {"base", *OVERLAYS, *COMPONENTS}


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: str(path.parent.name))
def test_the_api_takes_every_plain_document(path: Path) -> None:
    (entry,) = read_documents(path)
    for name in entry.get("resources", []):
        if (path.parent / name).is_file():
            for document in read_documents(path.parent / name):
                validate(document)


def test_the_api_takes_what_comes_of_it(objects: Objects) -> None:
    for document in [*objects.values(), *read_documents(EXAMPLE)]:
        validate(document)


def test_a_mistake_is_noticed() -> None:
    wrong = json.loads(json.dumps(rendered("cpu")["Deployment", "intent-serve"]))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 120
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
    monitor = json.loads(json.dumps(rendered("monitoring")["ServiceMonitor", "intent-serve"]))
    monitor["spec"]["endpoints"][0]["bearerToken"] = "secret"
    with pytest.raises(pydantic.ValidationError):
        validate(monitor)


@pytest.mark.parametrize("name", OVERLAYS + COMPONENTS)
def test_kustomize_makes_the_same_of_it(name: str, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    folder = FOLDER / "overlays" / name
    if name in COMPONENTS:
        folder = tmp_path.resolve()
        entry = {"resources": ["base"], "components": [f"components/{name}"]}
        entry = {
            key: [os.path.relpath(FOLDER / one, folder) for one in entry[key]] for key in entry
        }
        text = yaml.safe_dump({**entry, "namespace": NAMESPACE})
        (folder / "kustomization.yaml").write_text(text)
    command = ["kubectl", "kustomize", str(folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"\b(intent-settings|intent-projects)-[a-z0-9]{10}\b", r"\1", text)
    made = {name_of(one): one for one in yaml.safe_load_all(text)}
    assert sort_lists(made) == sort_lists(rendered(name))


def sort_lists(value: Any, field: str = "") -> Any:
    """Sort lists that Kubernetes merges by name, in which the order has no meaning."""
    if isinstance(value, dict):
        return {key: sort_lists(one, str(key)) for key, one in value.items()}
    if isinstance(value, list) and field in MERGED_BY:
        return sorted(value, key=lambda one: str(one[MERGED_BY[field]]))
    return [sort_lists(one) for one in value] if isinstance(value, list) else value


def test_selectors_find_their_pods(objects: Objects) -> None:
    pods = pods_of(objects)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods.items()}
    for (kind, name), document in objects.items():
        spec = document.get("spec", {})
        if kind == "Deployment":
            selector = spec["selector"]["matchLabels"]
            for spread in pods[name]["spec"].get("topologySpreadConstraints", []):
                assert spread["labelSelector"]["matchLabels"] == selector
        elif kind == "Service":
            selector = spec["selector"]
        elif kind in ("PodDisruptionBudget", "ServiceMonitor"):
            selector = spec["selector"]["matchLabels"]
        elif kind == "NetworkPolicy" and spec["podSelector"]:
            selector = spec["podSelector"]["matchLabels"]
        else:
            continue
        # A selector finds its own pods and no others.
        of = name.removesuffix("-metrics")
        assert [one for one in pods if is_part(selector, labels[one])] == [of]


def test_ports_and_probes_are_of_the_pod(objects: Objects) -> None:
    for container, _ in containers_of(objects):
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
    pods = pods_of(objects)
    for (kind, name), document in objects.items():
        if kind == "Service":
            (port,) = document["spec"]["ports"]
            (of_pod,) = pods[name]["spec"]["containers"][0]["ports"]
            assert (port["targetPort"], port["port"]) == (of_pod["name"], of_pod["containerPort"])
        if kind == "NetworkPolicy" and document["spec"]["podSelector"]:
            (rule,) = document["spec"]["ingress"]
            (of_pod,) = pods[name.removesuffix("-metrics")]["spec"]["containers"][0]["ports"]
            assert rule["ports"] == [{"protocol": "TCP", "port": of_pod["name"]}]


def test_every_reference_is_to_something_there(objects: Objects) -> None:
    secrets = {one["metadata"]["name"]: one["stringData"] for one in read_documents(EXAMPLE)}
    for container, pod in containers_of(objects):
        assert ("ServiceAccount", pod["serviceAccountName"]) in objects
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == set(volumes)
        for name, volume in volumes.items():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in objects
            if "secret" in volume:
                keys = secrets[volume["secret"]["secretName"]]
                (path,) = [
                    value
                    for value in environment_of(container, objects).values()
                    if value.startswith(mounts[name] + "/")
                ]
                assert path.removeprefix(mounts[name] + "/") in keys
        for variable in container["env"]:
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                assert reference["key"] in secrets[reference["name"]]
                assert reference["key"] == variable["name"]


def test_no_secret_has_a_value(objects: Objects) -> None:
    assert not [name for kind, name in objects if kind == "Secret"]
    for document in read_documents(EXAMPLE):
        assert document["metadata"]["namespace"] == NAMESPACE
        for name, value in document["stringData"].items():
            assert re.fullmatch(r"<.+>|[a-z0-9-]+ <.+>", value.strip()), name
    for container, _ in containers_of(objects):
        for variable, value in environment_of(container, objects).items():
            assert "@" not in value, f"{variable}: a URL with a login"
            if re.search("KEY|SECRET|TOKEN|PASSWORD|AUTH", variable):
                assert value == "" or value.startswith("/etc/intent/"), variable


def test_containers_may_do_no_more_than_they_must(objects: Objects) -> None:
    for container, pod in containers_of(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10000, "no user of a node has it"
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        account = objects["ServiceAccount", pod["serviceAccountName"]]
        assert account["automountServiceAccountToken"] is False
        makes_jobs = pod["serviceAccountName"] == "intent-gpu-worker"
        assert pod["automountServiceAccountToken"] is makes_jobs


def test_what_is_written_to_is_a_volume_with_room(objects: Objects) -> None:
    for container, pod in containers_of(objects):
        writable = {v["name"]: v for v in pod["volumes"] if {"emptyDir", "ephemeral"} & set(v)}
        places = [m["mountPath"] for m in container["volumeMounts"] if m["name"] in writable]
        assert "/tmp" in places
        environment = environment_of(container, objects)
        for name in ("INTENT_HOME", "PREFECT_HOME", "HOME"):
            value = environment.get(name, "/tmp")
            assert any(value == one or value.startswith(f"{one}/") for one in places), name
        asked, most = container["resources"]["requests"], container["resources"]["limits"]
        for resource in ("cpu", "memory", "ephemeral-storage"):
            assert read_quantity(asked[resource]) <= read_quantity(most[resource])
        room = {"Memory": 0.0, "": 0.0}
        for volume in writable.values():
            if "emptyDir" in volume:
                medium = volume["emptyDir"].get("medium", "")
                room[medium] += read_quantity(volume["emptyDir"]["sizeLimit"])
        # A pod above this is evicted, even if its volumes have room.
        assert room[""] <= read_quantity(asked["ephemeral-storage"])
        assert room["Memory"] <= read_quantity(most["memory"]) / 4
