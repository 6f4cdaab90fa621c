"""Options and environment of a vLLM server, derived from recipe, weights and device."""

import os
import shutil
from pathlib import Path

import yaml
from pydantic import JsonValue

from intent_core.recipe.config import ServeConfig
from intent_core.serving.drafting.length import MOST_TOKENS
from intent_core.serving.drafting.table import DRAFTS_FILE
from tasks.settings import LOOPBACK, Settings
from tasks.settings.environment import LOOPBACK_ONLY, QUIET

_MIDDLEWARE = "intent_core.serving.middleware.ServingMiddleware"
_DRAFTER = "intent_core.serving.drafting.proposer.LabelDrafter"
# During a promotion two adapters get requests (--max-loras); others stay in CPU memory.
_LORAS_AT_ONCE, _LORAS_IN_MEMORY = 2, 8
_FEW_CORES = 4
# Given by its class path: on a CPU, vLLM replaces the short name `uni` by `mp`.
_WITHIN_ENGINE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def server_config(config: ServeConfig, folder: Path, name: str, gpu: bool) -> dict[str, JsonValue]:
    """Return vLLM's command-line options; the weights in `folder` are served under `name`."""
    options: dict[str, JsonValue] = {
        "model": str(folder),
        "served-model-name": [name],
        # Always loopback: callers reach model servers only through the gateway.
        "host": LOOPBACK,
        # Otherwise a base model's generation_config.json would change greedy decoding.
        "generation-config": "vllm",
        "middleware": [_MIDDLEWARE],
        "disable-fastapi-docs": True,
        # The middleware's access log names the caller and the model.
        "disable-uvicorn-access-log": True,
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
    if speculation := _speculation(config, folder, gpu):
        options["speculative-config"] = speculation
    if config.data_parallel_size > 1:
        # One API server for all engines: it counts requests in flight and the callers' rates.
        options |= {"data-parallel-size": config.data_parallel_size, "api-server-count": 1}
    if gpu:
        share = config.gpu_memory_utilization
        return options | {"dtype": config.dtype, "gpu-memory-utilization": share}
    dtype = ("bfloat16" if _has_bf16() else "float32") if config.dtype == "auto" else config.dtype
    if _has_few_cores():
        # Run the worker inside the engine process: starts in a third of the time, equally fast.
        options["distributed-executor-backend"] = _WITHIN_ENGINE
    # The prefix cache holds full blocks only, and our prompts rarely fill the CPU's default block
    # of 128 tokens.
    return options | {"dtype": dtype, "enforce-eager": True, "block-size": 32}


def _speculation(config: ServeConfig, folder: Path, gpu: bool) -> dict[str, JsonValue]:
    """Return vLLM's speculative decoding; empty for none."""
    has_table = (folder / DRAFTS_FILE).exists()
    # On a GPU, vLLM schedules synchronously with a drafter of our own: not measured yet.
    is_automatic = config.drafter == "auto" and config.mode == "merged" and not gpu and has_table
    if config.drafter != "always" and not is_automatic:
        return {}
    if has_table:
        return {
            "method": "custom_class",
            "model": _DRAFTER,
            "num_speculative_tokens": MOST_TOKENS,
        }
    return {
        "method": "ngram",
        "num_speculative_tokens": 4,
        "prompt_lookup_min": 1,
        "prompt_lookup_max": 4,
    }


def server_environment(config: ServeConfig, adapters: Path) -> dict[str, str]:
    """Return vLLM's environment; it turns off telemetry, downloads and development endpoints."""
    environment = {
        **QUIET,
        **LOOPBACK_ONLY,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Few requests have the grammar of an earlier one; the default is 512 MB.
        "VLLM_XGRAMMAR_CACHE_MB": "64",
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    if not has_gpu():
        # Otherwise the first request for logprobs compiles a helper, and the engine dies if there
        # is no C++ compiler.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    if _has_few_cores():
        # By default one core is reserved for the scheduler: half of a two-core machine.
        environment["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    if config.mode == "adapter":
        # Lets vLLM load adapters by name from the adapters folder. Our middleware blocks unknown
        # names and the API paths that load adapters from elsewhere.
        environment |= {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_LORA_RESOLVER_CACHE_DIR": str(adapters),
        }
    return environment


def limits_per_key(settings: Settings, config: ServeConfig) -> dict[str, str]:
    """Return the middleware's limits on what each API key has in progress."""
    answers = max(1, config.max_num_seqs * config.data_parallel_size // 2)
    # A single answer can need its prompt's length, too.
    tokens = max(2, answers) * config.max_model_len
    chosen = settings.answers_per_key, settings.tokens_per_key
    return {
        "INTENT_ANSWERS_PER_KEY": str(answers if chosen[0] is None else chosen[0]),
        "INTENT_TOKENS_PER_KEY": str(tokens if chosen[1] is None else chosen[1]),
    }


def write_server_config(path: Path, options: dict[str, JsonValue]) -> None:
    """Write the options as a YAML file for `vllm --config`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")


def link_intent_core(folder: Path) -> Path:
    """Create a folder for PYTHONPATH that contains only a link to `intent_core`; return it.

    The package's real parent folder may contain other versions of packages that vLLM pins.
    """
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
    """Whether the CPU has bfloat16 units; without them bfloat16 takes three times as long."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()
