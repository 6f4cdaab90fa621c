"""Specifications of EAS services: replicas that follow the store, or vLLM with one model.

By the names of EAS's JSON deployment. No secret is in them: a role reads the store, EAS makes the
token, and the replicas' keys are files of a folder that is mounted.
"""

import shlex

from pydantic import JsonValue

from intent_core.errors import ConfigError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.training.protocol import ADAPTER_FOLDER
from tasks.alibaba.eas import Spec
from tasks.alibaba.store_access import describe_store
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings

MODEL_VARIABLE = "INTENT_MODEL"
"""In a vLLM service's environment: the content name of what it serves."""
_PORT = 8000
_HOME = "/var/lib/intent"
_MODEL, _BASE = "/models/model", "/models/base"
# Requests end, and vLLM after them.
_GRACE_S = 120
# The instance is one server's alone.
_GPU_SHARE = 0.9


def describe_fleet(settings: Settings, pai: PaiSettings) -> Spec:
    """Replicas of `intent serve --follow`: EAS starts and reaches them, the store commands them."""
    pai.require("serve_image", "secrets")
    if not settings.fleet:
        raise ConfigError("set INTENT_FLEET to the public alias, the recipe's serve.alias")
    environment = {
        **describe_store(settings, pai),
        "INTENT_FLEET": settings.fleet,
        "INTENT_HOME": _HOME,
        "INTENT_HOST": "0.0.0.0",
        "INTENT_GATEWAY_PORT": str(_PORT),
    }
    if settings.hub_endpoint:
        environment["INTENT_HUB_ENDPOINT"] = settings.hub_endpoint
    spec = _describe(pai, pai.service, pai.serve_image, "intent serve --follow", environment)
    # Where `intent serve` looks for its keys anyway.
    spec["storage"] = [_mount(pai.secrets, f"{_HOME}/secrets")]
    return spec


def describe_vllm(
    settings: Settings, pai: PaiSettings, name: str, artifact: ModelArtifact, serve: ServeConfig
) -> Spec:
    """vLLM by its own command, one model a service, in a group that shares the requests out."""
    pai.require("vllm_image")
    store = describe_store(settings, pai)["INTENT_STORE"].rstrip("/")
    mounts: list[JsonValue] = [_mount(f"{store}/{artifact.uri}/", _MODEL)]
    names = [serve.alias, artifact.name]
    options: dict[str, str] = {
        "--host": "0.0.0.0",
        "--port": str(_PORT),
        "--generation-config": "vllm",
        "--max-model-len": str(serve.max_model_len),
        "--max-num-seqs": str(serve.max_num_seqs),
        "--dtype": serve.dtype,
        "--gpu-memory-utilization": str(_GPU_SHARE),
    }
    if serve.data_parallel_size > 1:
        options["--data-parallel-size"] = str(serve.data_parallel_size)
    if serve.mode == "merged":
        command = ["vllm", "serve", _MODEL, "--served-model-name", *names]
    else:
        base, revision = _base(artifact, mounts)
        adapters = [f"{one}={_MODEL}/{ADAPTER_FOLDER}" for one in names]
        command = ["vllm", "serve", base, *revision]
        command += ["--served-model-name", f"{artifact.name}-base", "--enable-lora"]
        command += ["--max-lora-rank", str(serve.max_lora_rank), "--lora-modules", *adapters]
    command += [part for option in options.items() for part in option]
    command.append("--disable-fastapi-docs")
    environment = {
        MODEL_VARIABLE: artifact.name,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    spec = _describe(pai, name, pai.vllm_image, shlex.join(command), environment)
    spec["storage"] = mounts
    metadata = spec["metadata"]
    assert isinstance(metadata, dict)
    metadata["group"] = pai.service
    # Nobody's requests before it has answered as in its evaluation.
    networking: dict[str, JsonValue] = {"traffic_state": "standalone"}
    spec["networking"] = networking
    return spec


def _describe(
    pai: PaiSettings, name: str, image: str, script: str, environment: dict[str, str]
) -> Spec:
    metadata: dict[str, JsonValue] = {
        "name": name,
        "workspace_id": pai.workspace,
        "instance": pai.serve_instances,
        # One more at a time, and none less.
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
        "image": image,
        # `exec`: the signal that ends an instance is for our program.
        "script": f"exec {script}",
        "port": _PORT,
        "env": variables,
    }
    spec: Spec = {
        "metadata": metadata,
        "containers": [container],
        "options": {"enable_ram_role": True},
        "runtime": {"termination_grace_period": _GRACE_S},
    }
    if pai.role_arn:
        spec["role_arn"] = pai.role_arn
    if cloud:
        spec["cloud"] = cloud
    return spec


def _mount(uri: str, path: str) -> JsonValue:
    return {
        "mount_path": path,
        "oss": {"path": f"{uri.rstrip('/')}/", "readOnly": True},
    }


def _base(artifact: ModelArtifact, mounts: list[JsonValue]) -> tuple[str, list[str]]:
    """What vLLM loads below an adapter: a folder of OSS, or a hub's model at its commit."""
    base, _, commit = artifact.base_model.partition("@")
    if base.startswith("oss://"):
        mounts.append(_mount(base, _BASE))
        return _BASE, []
    if commit:
        return base, ["--revision", commit]
    raise ConfigError(
        f"{artifact.name}: its base model {artifact.base_model!r} is neither in OSS nor on a hub, "
        "where EAS would find it: serve it with serve.mode=merged"
    )
