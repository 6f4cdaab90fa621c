"""The environment of the processes we start: one table of the variables that each one gets.

A variable that a user has set for another vLLM, Prefect or MLflow must not change ours, and a
program gets no credentials that it does not use. What is not in the table is not passed on.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from tasks.settings.environment import DEFAULTS, FOR_CLIENTS
from tasks.settings.log_setup import OF_PREFECT

Child = Literal["prefect", "mlflow", "gateway", "vllm", "training", "postgres", "git", "bench"]

_ANY = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"),
    *("XDG_RUNTIME_DIR", "XDG_CACHE_HOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_PYTHON = (*DEFAULTS, "OTEL_*")
_COMPUTE = (
    *("CUDA_*", "NVIDIA_*", "NCCL_*", "GLOO_*", "LD_LIBRARY_PATH", "OMP_*", "MKL_*", "KMP_*"),
    *("PYTORCH_*", "CC", "CXX", "VLLM_CPU_*", "HF_HOME", "HF_TOKEN", "HF_HUB_*"),
    *("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "VLLM_CACHE_ROOT"),
)
# Prefect sends notifications.
_PROXIES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)

PASSED: Final[dict[Child, tuple[str, ...]]] = {
    "prefect": (*_ANY, *_PYTHON, *_PROXIES, *OF_PREFECT, "PREFECT_SERVER_UI_API_URL"),
    "mlflow": (*_ANY, *_PYTHON),
    "gateway": _ANY,
    "vllm": (
        *(*_ANY, *_PYTHON, *_COMPUTE),
        *("INTENT_REQUESTS_PER_MINUTE", "INTENT_MAX_BODY_BYTES", "INTENT_ADD_SYSTEM_PROMPT"),
    ),
    "training": (*_ANY, *_PYTHON, *_COMPUTE),
    "postgres": (*_ANY, "PG*"),
    "git": _ANY,
    "bench": _ANY,
}
"""Names, or patterns of names, of the variables that a process gets if we have them."""

# Variables of the programs we start; other variables that they do not get change nothing.
_THEIRS = (
    *("PREFECT_*", "MLFLOW_*", "VLLM_*", "TRANSFORMERS_*", "HF_*", "TORCH*", "PYTORCH_*", "CUDA_*"),
    *("NCCL_*", "OMP_*", "PYTHON*", "LD_*", "UVICORN_*", "GUNICORN_*", "NGINX*", "SQLALCHEMY_*"),
    *("OPENAI_*", "TOKENIZERS_*", "SAFETENSORS_*", "ACCELERATE_*", "*_PROXY", "*_proxy"),
)
# Set in the images; whether a process gets them makes no difference to a user.
_HARMLESS = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")


def child_environment(child: Child, **extra: str) -> dict[str, str]:
    """Return the environment of a process: what the table and INTENT_PASS_ENV name, and `extra`."""
    patterns = (*PASSED[child], *_read_pass_env())
    passed = {name: value for name, value in os.environ.items() if _is_named(name, patterns)}
    if child in ("prefect", "mlflow", "training"):  # they import our modules
        passed["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return {**passed, **extra}


def list_dropped() -> list[str]:
    """Return the names of variables for programs of these kinds that no process we start gets."""
    passed = [*sum(PASSED.values(), ()), *_read_pass_env(), *FOR_CLIENTS, *_HARMLESS]
    return sorted(n for n in os.environ if _is_named(n, _THEIRS) and not _is_named(n, passed))


def _read_pass_env() -> list[str]:
    return os.environ.get("INTENT_PASS_ENV", "").replace(",", " ").split()


def _is_named(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
