"""What a platform has, embedded for one machine: Prefect, MLflow, an object store, a gateway."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from intent_core.errors import ServiceError, TrackingError
from tasks.gateway import gateway_command, write_gateway_config
from tasks.pools import ensure_work_pools
from tasks.processes import (
    ProcessRecord,
    find_process,
    list_processes,
    require_free_port,
    start_process,
    stop_process,
    wait_until_ready,
)
from tasks.settings import Settings
from tasks.steps import get_store

_STARTUP_S = 180


def processes_folder(settings: Settings) -> Path:
    return settings.home.resolve() / "processes"


def start_services(settings: Settings, announce: Callable[[str], None]) -> None:
    """Start what does not run yet, all at once, and wait until each answers.

    Raises `ConfigError` when a port is taken by a program that is not ours.
    """
    get_store(settings)
    settings.read_api_key()
    started = time.monotonic()
    waiting = [
        (record, url)
        for start, url in (
            (_start_prefect, f"{settings.prefect_api_url}/health"),
            (_start_mlflow, f"{settings.mlflow_tracking_url}/health"),
            (_start_gateway, f"{settings.endpoint.removesuffix('/v1')}/gateway/health"),
        )
        if (record := start(settings))
    ]
    for record, url in waiting:
        error = TrackingError if record.name == "mlflow" else ServiceError
        wait_until_ready(record, lambda url=url: answers(url), _STARTUP_S, error)  # type: ignore[misc]
        announce(f"{record.name} answers after {time.monotonic() - started:.0f} s")
    if any(record.name == "prefect" for record, _ in waiting):
        ensure_work_pools()


def stop_services(settings: Settings, announce: Callable[[str], None]) -> None:
    """Stop every process this home has started, model servers included, and nothing else."""
    folder = processes_folder(settings)
    records = list_processes(folder)
    # The gateway first: callers get a clean refusal instead of a dying server.
    for record in sorted(records, key=lambda r: r.name != "gateway"):
        stop_process(folder, record)
        announce(f"stopped {record.name} (pid {record.pid})")


def running_services(settings: Settings) -> dict[str, int]:
    """Name and pid of every process this home has started."""
    return {record.name: record.pid for record in list_processes(processes_folder(settings))}


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _start_prefect(settings: Settings) -> ProcessRecord | None:
    if settings.prefect_url:
        return None
    home = settings.home.resolve() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "prefect", "server", "start"),
        *("--host", settings.host, "--port", str(settings.prefect_port)),
    ]
    return _start(
        settings,
        "prefect",
        command,
        settings.prefect_port,
        PREFECT_HOME=str(home),
        PREFECT_API_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{home}/prefect.db",
        # The server looks its own API up under this address.
        PREFECT_API_URL=settings.prefect_api_url,
    )


def _start_mlflow(settings: Settings) -> ProcessRecord | None:
    if settings.mlflow_url:
        return None
    home = settings.home.resolve() / "mlflow"
    home.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{home}/mlflow.db"),
        *("--artifacts-destination", str(home / "artifacts")),
        *("--host", settings.host, "--port", str(settings.mlflow_port)),
    ]
    return _start(settings, "mlflow", command, settings.mlflow_port)


def _start_gateway(settings: Settings) -> ProcessRecord | None:
    if find_process(processes_folder(settings), "gateway"):
        return None
    write_gateway_config(settings)
    return _start(settings, "gateway", gateway_command(settings), settings.gateway_port)


def _start(
    settings: Settings, name: str, command: list[str], port: int, **environment: str
) -> ProcessRecord | None:
    folder = processes_folder(settings)
    if find_process(folder, name):
        return None
    require_free_port(settings.host, port, name, f"INTENT_{name.upper()}_PORT")
    return start_process(folder, name, command, port, **environment)
