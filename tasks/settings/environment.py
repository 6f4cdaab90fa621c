"""Read our settings from the environment, and set those of our dependencies in it.

The dependencies' variables must be set before they are imported. They apply to this process and its
children. A variable that the user has set keeps its value. The container images set the same.
"""

import contextlib
import os
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from intent_core.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

# No telemetry; tests/flows/test_no_outbound_connections.py checks it.
QUIET = {
    # Prefect, gradio, vLLM, Hugging Face and others
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
}
# torch's processes on one machine connect through loopback; by default they listen on the address
# of the host name.
LOOPBACK_ONLY = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
DEFAULTS = {
    **QUIET,
    # We retry ourselves and log each attempt; MLflow's own retries would block silently for
    # minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    # Job execution starts eight processes (2 GB) that score traces; we never use it.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Timeout in seconds of one export with its retries; a collector that is down delays the end of
    # a run by this time.
    "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Seconds. `flows.intake.lost_runs` detects killed runs by missing heartbeats.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,intent_core",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}

# Set for this process by `prepare_environment` and `get_settings`; servers get their own values.
FOR_CLIENTS = ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_*")
_REPLACED = {
    "INTENT_HOST": (
        "set INTENT_GATEWAY_HOST to the address that the gateway listens on. Prefect and MLflow "
        "listen on 127.0.0.1, unless INTENT_PREFECT_HOST and INTENT_MLFLOW_HOST name another "
        "address"
    ),
}


def prepare_environment(prefect_api_url: str, prefect_home: Path) -> None:
    """Set the environment for Prefect, MLflow and other dependencies; disable their telemetry."""
    for name, value in {**DEFAULTS, "PREFECT_API_URL": prefect_api_url}.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = str(prefect_home)
        # Prefect creates only the last folder of the path and warns if its parent is missing.
        with contextlib.suppress(OSError):
            prefect_home.mkdir(parents=True, exist_ok=True)


def refuse_replaced() -> None:
    """Raise `ConfigError` for a variable of an earlier version, which would change nothing."""
    for name, instead in _REPLACED.items():
        if os.environ.get(name):
            raise ConfigError(f"{name}={os.environ[name]}: there is no such setting: {instead}")


def load_settings(model: type[SettingsT]) -> SettingsT:
    """Read settings from the environment; `ConfigError` lists every invalid variable."""
    try:
        return model()
    except ValidationError as error:
        faults = (
            f"{model.model_config['env_prefix']}{str(fault['loc'][0]).upper()}={fault['input']!r}: "
            f"{fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise ConfigError("invalid environment variables: " + "; ".join(faults)) from error
