"""Specification of an EAS service whose instances are replicas that follow the store.

The field names are those of EAS's JSON deployment. The specification contains no secrets: the
store is read with a RAM role, EAS creates the token, and the replicas' keys are mounted files.
"""

from pydantic import JsonValue

from tasks.alibaba.eas import Spec
from tasks.alibaba.store_access import describe_store
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings

_PORT = 8000
_HOME = "/var/lib/intent"
# Time for requests in progress to end, then for vLLM to stop.
_GRACE_S = 120


def describe_fleet(settings: Settings, pai: PaiSettings, alias: str) -> Spec:
    """Describe replicas of `intent serve --follow`: EAS runs them, the store controls them."""
    pai.require("serve_image", "secrets")
    environment = {
        **describe_store(settings, pai),
        "INTENT_FLEET": alias,
        "INTENT_HOME": _HOME,
        "INTENT_GATEWAY_HOST": "0.0.0.0",
        "INTENT_GATEWAY_PORT": str(_PORT),
    }
    if settings.hub_endpoint:
        environment["INTENT_HUB_ENDPOINT"] = settings.hub_endpoint
    metadata: dict[str, JsonValue] = {
        "name": pai.service,
        "workspace_id": pai.workspace,
        "instance": pai.serve_instances,
        # Replace one instance at a time without reducing capacity.
        "rolling_strategy": {"max_surge": 1, "max_unavailable": 0},
    }
    cloud: dict[str, JsonValue] = {}
    if pai.serve_resource:
        metadata |= {
            "resource": pai.serve_resource,
            "cpu": pai.serve_cpu,
            "memory": pai.serve_memory_gb * 1000,
            "gpu": pai.serve_gpus,
        }
    else:
        pai.require("serve_spec")
        cloud["computing"] = {"instances": [{"type": pai.serve_spec}]}
    if pai.vpc:
        cloud["networking"] = {
            "vpc_id": pai.vpc,
            "vswitch_id": pai.vswitch,
            "security_group_id": pai.security_group,
        }
    variables: list[JsonValue] = [{"name": n, "value": v} for n, v in environment.items()]
    container: dict[str, JsonValue] = {
        "image": pai.serve_image,
        # `exec`, so that the signal to stop an instance reaches our process.
        "script": "exec intent serve --follow",
        "port": _PORT,
        "env": variables,
    }
    spec: Spec = {
        "metadata": metadata,
        "containers": [container],
        "options": {"enable_ram_role": True},
        "runtime": {"termination_grace_period": _GRACE_S},
        "storage": [
            {
                "mount_path": f"{_HOME}/secrets",  # `intent serve` reads its API keys from here
                "oss": {"path": f"{pai.secrets.rstrip('/')}/", "readOnly": True},
            }
        ],
    }
    if pai.role_arn:
        spec["role_arn"] = pai.role_arn
    if cloud:
        spec["cloud"] = cloud
    return spec
