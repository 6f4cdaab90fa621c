"""How the clients of Prefect and MLflow find their servers, and what they keep quiet about."""

import contextlib
import logging
import os
from pathlib import Path


def point_clients(prefect_api_url: str, home: Path) -> None:
    """Set their environment, before they are imported; what a person has set there stays."""
    os.environ.setdefault("PREFECT_API_URL", prefect_api_url)
    if "PREFECT_HOME" not in os.environ:
        folder = home.resolve() / "prefect"
        os.environ["PREFECT_HOME"] = str(folder)
        # Prefect makes one level only, and warns when that does not do.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
    for name in (
        "GRADIO_ANALYTICS_ENABLED",
        "PREFECT_SERVER_ANALYTICS_ENABLED",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY",
    ):
        os.environ.setdefault(name, "false")
    # By its silence a run whose process was killed is known (`flows.lost_runs`).
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "flows,tasks,intent_core")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    # Ours are the retries, with a line for each: MLflow's client would wait minutes in silence.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    for name in ("NO_PROXY", "no_proxy"):
        # Our servers are on this machine; a proxy for the internet would not find them.
        os.environ[name] = ",".join(
            dict.fromkeys([*filter(None, [os.environ.get(name)]), "127.0.0.1", "localhost"])
        )
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in ("flows", "tasks", "intent_core"):
        logging.getLogger(name).setLevel(logging.INFO)
    for name in (
        "DO_NOT_TRACK",
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    ):
        os.environ.setdefault(name, "true")
