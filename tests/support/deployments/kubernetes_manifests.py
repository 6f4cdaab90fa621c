"""Render the Kubernetes manifests."""

import functools
from collections.abc import Iterator

from tasks.settings import CHECKOUT
from tests.support.deployments.kustomize import Document, Objects, pods_of, render

FOLDER = CHECKOUT / "deployments" / "kubernetes"
NAMESPACE = "intent"
OVERLAYS = ("adapter", "cpu", "merged")
COMPONENTS = ("autoscaling", "callers", "gpu-pool", "home-claim", "monitoring", "receiver")
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))
EXAMPLE = FOLDER / "secrets.example.yaml"


@functools.cache
def rendered(name: str) -> Objects:
    """Render an overlay, or the base with a component."""
    if name in OVERLAYS:
        return render(FOLDER / "overlays" / name)
    return render(FOLDER / "base", FOLDER / "components" / name)


def containers_of(objects: Objects) -> Iterator[tuple[Document, Document]]:
    """Yield each container and its pod's specification."""
    for pod in pods_of(objects).values():
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            yield container, pod["spec"]


def environment_of(container: Document, objects: Objects) -> dict[str, str]:
    """Return the container's variables; a variable with `valueFrom` is the empty string."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= objects["ConfigMap", source["configMapRef"]["name"]]["data"]
    return found | {one["name"]: one.get("value", "") for one in container.get("env", [])}
