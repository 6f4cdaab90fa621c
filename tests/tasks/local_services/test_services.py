"""Start each embedded service: `pip check` does not detect a server that cannot start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client

from intent_core.errors import ConfigError, ServiceError
from tasks.local_services import services
from tasks.local_services.services import running_services, start_services, stop_services
from tasks.settings import Settings
from tasks.system.ports import choose_free_port
from tasks.system.processes import find_process

pytestmark = pytest.mark.service

SERVICES = ("prefect", "mlflow", "gateway")


def test_each_server_answers(platform: Settings) -> None:
    assert set(running_services(platform)) >= {"prefect", "mlflow", "gateway"}
    with get_client(sync_client=True) as client:
        assert client.api_healthcheck() is None
        assert {pool.name for pool in client.read_work_pools()} >= {"cpu", "gpu"}
    assert MlflowClient(platform.mlflow_tracking_url).search_experiments()
    gateway = platform.endpoint.removesuffix("/v1")
    assert httpx.get(f"{gateway}/gateway/health").status_code == 200
    assert httpx.get(f"{gateway}/anything").status_code == 404


def test_mlflow_runs_no_job_processes(platform: Settings) -> None:
    record = find_process(platform.layout.processes, "mlflow")
    assert record
    below = psutil.Process(record.pid).children(recursive=True)
    assert not [one.cmdline() for one in below if "mlflow.server.jobs" in " ".join(one.cmdline())]


def test_starting_again_starts_nothing(platform: Settings) -> None:
    before = running_services(platform)
    said: list[str] = []
    start_services(platform, said.append)
    assert said == []
    assert running_services(platform) == before


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_already_taken_is_named_and_nothing_is_left_running(
    name: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = free_settings(tmp_path).model_copy(update={f"{name}_port": port})
        with pytest.raises(ConfigError, match=rf"port {port} for {name} .*_{name.upper()}_PORT"):
            start_services(settings, lambda line: None)
    assert running_services(settings) == {}


def free_settings(home: Path) -> Settings:
    return Settings(home=home, **{f"{one}_port": choose_free_port("127.0.0.1") for one in SERVICES})


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    settings = free_settings(tmp_path)
    settings.layout.prefect.mkdir(parents=True)
    settings.layout.prefect_database.write_bytes(b"no database" * 1_000)
    with pytest.raises(ServiceError, match=r"database cannot be read .*file is not a database"):
        start_services(settings, lambda line: None)
    assert running_services(settings) == {}


def test_a_full_disk_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = free_settings(tmp_path)
    monkeypatch.setattr(services, "_LEAST_FREE", 10**18)
    with pytest.raises(ServiceError, match=rf"the disk of {tmp_path} is full: .* Free some space"):
        start_services(settings, lambda line: None)
    assert running_services(settings) == {}
    assert not settings.layout.api_key.exists(), "nothing is written first"
    start_services(settings, lambda line: None, only=["gateway"])
    assert list(running_services(settings)) == ["gateway"], "it has no database"
    stop_services(settings, lambda line: None)


def test_mlflow_starts_from_a_path_with_a_percent_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "from mlflow.store.db.utils import _get_alembic_config\n"
        "config = _get_alembic_config('sqlite:///a%2F', '/opt/my %2F')\n"
        "print(*map(config.get_main_option, ('script_location', 'sqlalchemy.url')))"
    )
    monkeypatch.setattr(sys, "prefix", "/opt/my %2F/.venv")
    environment = services._mlflow(free_settings(tmp_path)).environment
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.stdout == "/opt/my %2F sqlite:///a%2F\n", done.stderr


def test_stop_ends_nothing_of_another_home(platform: Settings, tmp_path: Path) -> None:
    before = running_services(platform)
    stop_services(Settings(home=tmp_path), lambda line: None)
    assert running_services(platform) == before
