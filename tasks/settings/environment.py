"""The environment: our settings are read from it, and those of our dependencies are set in it.

The latter before any of them is imported, for this process and all that it starts, unless a person
has set them otherwise; the images have the same.
"""

import contextlib
import os
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from intent_core.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

# Nothing is told to anybody: tests/flows/test_no_outbound_connections.py watches that it is not.
QUIET = {
    # Prefect, gradio, vLLM, Hugging Face and others
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
}
_DEFAULTS = {
    **QUIET,
    # Ours are the retries, with a line for each: MLflow's client would wait minutes in silence.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    # Eight processes, 2 GB, for scorers of traces: nothing here starts such a job.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Seconds for one batch with its retries: a collector that is down delays a run's end this long.
    "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By its silence a run whose process was killed is known (`flows.intake.lost_runs`).
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,intent_core",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def prepare_environment(prefect_api_url: str, prefect_home: Path) -> None:
    """Point the clients of Prefect and MLflow to ours, and keep everybody quiet."""
    for name, value in {**_DEFAULTS, "PREFECT_API_URL": prefect_api_url}.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = str(prefect_home)
        # Prefect makes one level only, and warns when that does not do.
        with contextlib.suppress(OSError):
            prefect_home.mkdir(parents=True, exist_ok=True)
    for name in ("NO_PROXY", "no_proxy"):
        # Our servers are on this machine; a proxy for the internet would not find them.
        os.environ[name] = ",".join(
            dict.fromkeys([*filter(None, [os.environ.get(name)]), "127.0.0.1", "localhost"])
        )


def load_settings(model: type[SettingsT]) -> SettingsT:
    """Read the environment; a `ConfigError` lists every wrong variable."""
    try:
        return model()
    except ValidationError as error:
        faults = (
            f"{model.model_config['env_prefix']}{str(fault['loc'][0]).upper()}={fault['input']!r}: "
            f"{fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise ConfigError("wrong settings in the environment: " + "; ".join(faults)) from error
