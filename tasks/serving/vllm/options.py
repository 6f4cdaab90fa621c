"""What a vLLM server is started with: it follows from the recipe, the weights and the device."""

import os
import shutil
from pathlib import Path

import yaml
from pydantic import JsonValue

from intent_core.recipe.config import ServeConfig
from tasks.settings import LOOPBACK
from tasks.settings.environment import QUIET

_MIDDLEWARE = "intent_core.serving.middleware.ServingMiddleware"
# While a promotion lasts requests for two adapters come; the others wait in memory.
_LORAS_AT_ONCE, _LORAS_IN_MEMORY = 2, 8
_FEW_CORES = 4
# By its path: the short name `uni` is taken as `mp` on a CPU.
_WITHIN_ENGINE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def server_config(config: ServeConfig, folder: Path, name: str, gpu: bool) -> dict[str, JsonValue]:
    """vLLM's own options by their names; `name` is what the weights in `folder` are served as."""
    options: dict[str, JsonValue] = {
        "model": str(folder),
        "served-model-name": [name],
        # Whatever the public address: model servers are reached through the gateway alone.
        "host": LOOPBACK,
        # Else a base model's generation_config changes what greedy decoding gives.
        "generation-config": "vllm",
        "middleware": [_MIDDLEWARE],
        "disable-fastapi-docs": True,
        "max-model-len": config.max_model_len,
        "max-num-seqs": config.max_num_seqs,
    }
    if config.mode == "adapter":
        options |= {
            "enable-lora": True,
            "max-lora-rank": config.max_lora_rank,
            "max-loras": _LORAS_AT_ONCE,
            "max-cpu-loras": _LORAS_IN_MEMORY,
        }
    if config.data_parallel_size > 1:
        # One process before them all: it counts what is in flight and how much a caller asks.
        options |= {"data-parallel-size": config.data_parallel_size, "api-server-count": 1}
    if gpu:
        share = config.gpu_memory_utilization
        return options | {"dtype": config.dtype, "gpu-memory-utilization": share}
    dtype = ("bfloat16" if _has_bf16() else "float32") if config.dtype == "auto" else config.dtype
    if _has_few_cores():
        # The engine computes by itself: a process less to start, a third of the time, as fast.
        options["distributed-executor-backend"] = _WITHIN_ENGINE
    # The CPU default of 128 tokens a block would keep our prompts out of the prefix cache.
    return options | {"dtype": dtype, "enforce-eager": True, "block-size": 32}


def server_environment(config: ServeConfig, adapters: Path) -> dict[str, str]:
    """What vLLM reads from the environment; nothing in it leaves this machine or opens a door."""
    environment = {
        **QUIET,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    if not has_gpu():
        # Else the first request for logprobs compiles a helper, and the engine ends where no C++
        # compiler is.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    if _has_few_cores():
        # It keeps a core for its scheduler otherwise: of two, half the work.
        environment["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    if config.mode == "adapter":
        # Adapters are found by name; our middleware lets only names through that we have made,
        # and none of the paths that load one from elsewhere.
        environment |= {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_LORA_RESOLVER_CACHE_DIR": str(adapters),
        }
    return environment


def write_server_config(path: Path, options: dict[str, JsonValue]) -> None:
    """The options as a file that vLLM reads and a person can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")


def link_intent_core(folder: Path) -> Path:
    """Link only `intent_core` into it: its own folder may contain packages vLLM pins otherwise."""
    import intent_core

    package = Path(intent_core.__path__[0]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "intent_core"
    if link.is_symlink() and link.resolve() == package:
        return folder
    partial = folder / f".intent_core.{package.stat().st_ino}"
    partial.unlink(missing_ok=True)
    partial.symlink_to(package)
    partial.rename(link)
    return folder


def has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None and any(Path("/dev").glob("nvidia[0-9]*"))


def _has_few_cores() -> bool:
    return len(os.sched_getaffinity(0)) <= _FEW_CORES


def _has_bf16() -> bool:
    """Without such units bfloat16 costs three times what float32 does."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()
