"""Render a folder like kustomize, for the features that our manifests use.

This replaces the kustomize binary, which most test machines do not have. Containers, volumes and
variables are merged by name; other lists are replaced. If `kubectl` is installed, a test compares
the result with the real kustomize.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
Objects = dict[tuple[str, str], Document]
"""Documents by kind and name."""

MERGED_BY = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_WITHOUT_NAMESPACE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
_KNOWN = {
    *("apiVersion", "kind", "namespace", "resources", "components"),
    *("configMapGenerator", "patches", "images"),
}


def read_documents(path: Path) -> list[Document]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def name_of(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def render(folder: Path, *components: Path) -> Objects:
    """Return the objects of a base or an overlay, with `components` applied.

    Unlike kustomize's, the names of generated ConfigMaps have no hash.
    """
    objects: Objects = {}
    _apply(folder, objects)
    for component in components:
        _apply(component, objects)
    (entry,) = read_documents(folder / "kustomization.yaml")
    _set_namespace(objects, entry["namespace"])
    return objects


def _apply(folder: Path, objects: Objects) -> None:
    (entry,) = read_documents(folder / "kustomization.yaml")
    unknown = set(entry) - _KNOWN
    assert not unknown, f"{folder}: this renderer does not support {sorted(unknown)}"
    for name in entry.get("resources", []):
        _add(objects, _read_resource(folder / name))
    for generator in entry.get("configMapGenerator", []):
        _add(objects, [_generate(folder, generator)])
    for name in entry.get("components", []):
        _apply(folder / name, objects)
    for patch in entry.get("patches", []):
        assert set(patch) == {"path"}, f"{folder}: only patches from files are supported"
        for change in read_documents(folder / patch["path"]):
            assert name_of(change) in objects, f"{folder}/{patch['path']}: no such object"
            objects[name_of(change)] = merge(objects[name_of(change)], change)
    for image in entry.get("images", []):
        _set_tag(objects, image["name"], image["newTag"])


def _read_resource(path: Path) -> list[Document]:
    return list(render(path).values()) if path.is_dir() else read_documents(path)


def _add(objects: Objects, documents: list[Document]) -> None:
    for document in documents:
        assert name_of(document) not in objects, f"{name_of(document)} is defined twice"
        # Copied, because YAML anchors share one object between documents.
        objects[name_of(document)] = copy.deepcopy(document)


def _generate(folder: Path, generator: Document) -> Document:
    content: dict[str, str] = {}
    for name in generator.get("envs", []):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.partition("=")
                content[key] = value
    for name in generator.get("files", []):
        content[name] = (folder / name).read_text(encoding="utf-8")
    metadata = {"name": generator["name"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": content}


def merge(original: Any, change: Any, field: str = "") -> Any:
    """Merge strategically: mappings by key, null deletes, lists of `MERGED_BY` by their key."""
    if isinstance(original, dict) and isinstance(change, dict):
        merged = dict(original)
        for key, value in change.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge(original.get(key), value, key)
        return merged
    if isinstance(original, list) and field in MERGED_BY:
        key = MERGED_BY[field]
        changes = {one[key]: one for one in change}
        kept = [merge(one, changes.pop(one[key], {})) for one in original]
        return kept + list(changes.values())
    return copy.deepcopy(change)


def _set_tag(objects: Objects, name: str, tag: str) -> None:
    for pod in pods_of(objects).values():
        for container in pod["spec"]["containers"]:
            if container["image"].split(":")[0] == name:
                container["image"] = f"{name}:{tag}"


def _set_namespace(objects: Objects, namespace: str) -> None:
    for (kind, _), document in objects.items():
        if kind not in _WITHOUT_NAMESPACE:
            document["metadata"]["namespace"] = namespace


def pods_of(objects: Objects) -> dict[str, Document]:
    """Return the pod template of each Deployment by the Deployment's name."""
    return {
        name: document["spec"]["template"]
        for (kind, name), document in objects.items()
        if kind == "Deployment"
    }
