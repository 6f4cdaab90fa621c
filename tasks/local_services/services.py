"""The embedded platform of one machine: Prefect, MLflow, an object store, a gateway."""

import shutil
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, NamedTuple

import httpx
from pydantic import SecretStr

from intent_core.errors import ConfigError, ServiceError, TrackingError
from intent_core.files import file_lock
from tasks.local_services.mlflow_login import (
    mlflow_command,
    prepare_mlflow,
    require_login,
)
from tasks.serving.gateway.certificates import renew_certificate
from tasks.serving.gateway.nginx import (
    gateway_command,
    health_url,
    require_same_listeners,
    write_gateway_config,
)
from tasks.settings import LOOPBACK, Settings
from tasks.settings.home_layout import sqlite_url
from tasks.storage.step_results import get_store
from tasks.system.ports import require_free_port
from tasks.system.processes import (
    end_leftovers,
    find_process,
    last_lines,
    list_processes,
    start_process,
    stop_process,
    wait_until_ready,
)

_PERCENT_SIGN = Path(__file__).with_name("percent_sign")
_STARTUP_S = 180
_LEAST_FREE = 50_000_000


class Service(NamedTuple):
    """A server of the embedded platform and how to start it."""

    name: Literal["prefect", "mlflow", "gateway"]
    host: str
    port: int
    health_url: str
    command: list[str]
    environment: dict[str, str]
    prepare: Callable[[], dict[str, str]]
    """Writes what the server needs just before its start; returns secrets for its environment."""


def start_services(
    settings: Settings, announce: Callable[[str], None], only: Collection[str] = ()
) -> None:
    """Start all services that are not running, in parallel, and wait until each answers.

    `only` limits this to the named services. Raises `ConfigError` when another program uses a
    port, when the gateway runs under other settings, or when its certificate is unusable.
    """
    folder, services = settings.layout.processes, _services(settings)
    if only:
        services = [service for service in services if service.name in only]
    if any(s.name != "gateway" and find_process(folder, s.name) is None for s in services):
        require_free_disk(settings.home)
    get_store(settings)
    settings.read_api_key()
    with file_lock(settings.layout.services_lock):
        require_same_listeners(settings)
        if not only:
            # With `only`, the caller is `supervise`, which renews the certificate itself and keeps
            # the previous one if the new one is unusable.
            renew_certificate(settings)
        missing = [s for s in services if find_process(folder, s.name) is None]
        for service in missing:
            end_leftovers(folder, service.name)
            setting = f"INTENT_{service.name.upper()}_PORT"
            require_free_port(service.host, service.port, service.name, setting)
            if service.name == "gateway" and settings.has_tls:
                local = settings.gateway_local_port
                require_free_port(LOOPBACK, local, "gateway", "INTENT_GATEWAY_LOCAL_PORT")
        try:
            _start(settings, services, missing, announce)
        except BaseException:
            # A platform that did not start leaves nothing running.
            for service in missing:
                if record := find_process(folder, service.name):
                    stop_process(folder, record)
            raise
        if not settings.prefect_url and not only:
            _set_up_prefect(settings, announce)


def _start(
    settings: Settings,
    services: Collection[Service],
    missing: Collection[Service],
    announce: Callable[[str], None],
) -> None:
    started = time.monotonic()
    for service in missing:
        environment = service.environment | service.prepare()
        start_process(
            settings.layout.processes,
            service.name,
            service.command,
            service.port,
            service.name,
            **environment,
        )
    for service in services:
        _wait_for(settings, service)
        if service in missing:
            announce(f"{service.name} is ready after {time.monotonic() - started:.0f} s")


def require_free_disk(folder: Path) -> None:
    """Raise `ServiceError` if the disk of a folder has no space for the servers' databases."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < _LEAST_FREE:
        raise ServiceError(
            f"the disk of {folder} is full: {free / 1e6:.0f} MB are free, and the databases need "
            f"{_LEAST_FREE / 1e6:.0f} MB to start. Free some space, or set INTENT_HOME to a folder "
            "on another disk"
        )


def _set_up_prefect(settings: Settings, announce: Callable[[str], None]) -> None:
    """Create the work pools and automations; on an external Prefect server the user does this."""
    from tasks.orchestration.automations import ensure_automations  # imports Prefect, which is slow
    from tasks.orchestration.encryption_key import forget_stored_key
    from tasks.orchestration.prefect_client import connect
    from tasks.orchestration.work_pools import ensure_work_pools

    with connect(settings):
        ensure_work_pools()
        for step in (
            lambda: ensure_automations(settings),
            lambda: forget_stored_key(settings, _prefect_database(settings)),
        ):
            try:
                step()
            except ConfigError as error:
                announce(str(error))  # do not fail: it can only be repaired once Prefect runs


def stop_services(settings: Settings, announce: Callable[[str], None]) -> None:
    """Stop every process started from this home, including model servers, and no other process."""
    folder = settings.layout.processes
    for path in folder.glob("*.json"):
        end_leftovers(folder, path.stem)
    records = list_processes(folder)
    # The gateway first: callers get a refused connection instead of an interrupted answer.
    for record in sorted(records, key=lambda r: r.name != "gateway"):
        stop_process(folder, record)
        announce(f"stopped {record.name} (pid {record.pid})")


def running_services(settings: Settings) -> dict[str, int]:
    """Return the name and pid of every running process started from this home."""
    return {record.name: record.pid for record in list_processes(settings.layout.processes)}


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _wait_for(settings: Settings, service: Service) -> None:
    record = find_process(settings.layout.processes, service.name)
    if record is None:
        log = settings.layout.processes / f"{service.name}.log"
        raise ServiceError(f"{service.name} exited during startup; {last_lines(log)}")
    error = TrackingError if service.name == "mlflow" else ServiceError
    wait_until_ready(record, lambda: answers(service.health_url), _STARTUP_S, error)


def _services(settings: Settings) -> list[Service]:
    """List the services of this machine: the gateway, and those without an external server."""
    services = [_gateway(settings)]
    if not settings.mlflow_url:
        services.insert(0, _mlflow(settings))
    if not settings.prefect_url:
        services.insert(0, _prefect(settings))
    return services


def _prefect(settings: Settings) -> Service:
    layout = settings.layout
    return Service(
        name="prefect",
        host=settings.prefect_host,
        port=settings.prefect_port,
        health_url=f"{settings.prefect_api_url}/health",
        command=[
            *(sys.executable, "-m", "prefect", "server", "start"),
            *("--host", settings.prefect_host, "--port", str(settings.prefect_port)),
        ],
        environment={
            "PREFECT_HOME": str(layout.prefect),
            "PREFECT_API_DATABASE_CONNECTION_URL": _prefect_database(settings),
            # The default, in memory, is lost when the server is killed: limits that runs held
            # would then never be released.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            # The server calls its own API at this address.
            "PREFECT_API_URL": settings.prefect_api_url,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(_own_origins(settings)),
        },
        prepare=lambda: _prepare_prefect(settings),
    )


def _prepare_prefect(settings: Settings) -> dict[str, str]:
    from tasks.orchestration.encryption_key import ensure_encryption_key  # imports Prefect

    settings.layout.prefect.mkdir(parents=True, exist_ok=True)
    login = settings.read_prefect_login()
    return {
        "PREFECT_SERVER_ENCRYPTION_KEY": ensure_encryption_key(
            settings, _prefect_database(settings)
        ),
        # Otherwise any program and any web page could start runs with commands of its own.
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_API_AUTH_STRING": login,
    }


def _prefect_database(settings: Settings) -> str:
    embedded = sqlite_url("sqlite+aiosqlite", settings.layout.prefect_database)
    return _database(settings.prefect_database_url, "asyncpg", embedded)


def _own_origins(settings: Settings) -> list[str]:
    """Return the origins of Prefect's pages on this machine, which call the API by its URL."""
    return [settings.prefect_ui_url, f"http://localhost:{settings.prefect_port}"]


def _mlflow(settings: Settings) -> Service:
    require_login(settings)
    layout = settings.layout
    return Service(
        name="mlflow",
        host=settings.mlflow_host,
        port=settings.mlflow_port,
        health_url=f"{settings.mlflow_tracking_url}/health",
        command=[
            *(*mlflow_command(settings), "--workers", "1"),
            *("--artifacts-destination", str(layout.mlflow_artifacts)),
            *("--host", settings.mlflow_host, "--port", str(settings.mlflow_port)),
        ],
        environment={
            # In the environment, because every user of the machine can read a command line.
            "MLFLOW_BACKEND_STORE_URI": _database(
                settings.mlflow_database_url,
                "psycopg2",
                sqlite_url("sqlite", layout.mlflow_database),
            ),
            **({"PYTHONPATH": str(_PERCENT_SIGN)} if "%" in sys.prefix else {}),
        },
        prepare=lambda: prepare_mlflow(settings),
    )


def _database(url: SecretStr | None, driver: str, embedded: str) -> str:
    """Return a server's database URL: PostgreSQL with the server's driver, or embedded SQLite."""
    if url is None:
        return embedded
    kind, separator, rest = url.get_secret_value().partition("://")
    if not separator or kind.partition("+")[0] not in ("postgresql", "postgres"):
        raise ConfigError(
            "INTENT_PREFECT_DATABASE_URL and INTENT_MLFLOW_DATABASE_URL must start with "
            "postgresql://, e.g. postgresql://user:password@host/database"
        )
    return f"postgresql+{driver}://{rest}"


def _gateway(settings: Settings) -> Service:
    return Service(
        name="gateway",
        host=settings.gateway_host,
        port=settings.gateway_port,
        health_url=health_url(settings),
        command=gateway_command(settings),
        environment={},
        prepare=lambda: _prepare_gateway(settings),
    )


def _prepare_gateway(settings: Settings) -> dict[str, str]:
    write_gateway_config(settings)
    return {}
