"""Prefect and MLflow on PostgreSQL: three projects run at once without losing data."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from intent_core.errors import ConfigError
from tasks.local_services.services import start_services, stop_services
from tasks.settings import Settings
from tasks.system.ports import choose_free_port
from tasks.system.processes import find_process
from tests.support.servers.postgres import PASSWORD, Postgres, running_postgres

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_three_projects_at_once_lose_nothing(postgres: Postgres, tmp_path: Path) -> None:
    """Run each pipeline from S3 to a served model; `tests.support.soak.soak` checks the result."""
    folder = tmp_path / "soak"
    command = [
        sys.executable,
        "-m",
        "tests.support.soak.soak",
        "--calm",
        "--quick",
        "--postgres",
        "--projects",
        "3",
    ]
    done = subprocess.run(
        [*command, "--keep", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=2300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["exports"], result["mlflow_runs"], result["violations"]) == (3, 3, [])
    assert not list(folder.rglob("*.db")), "no SQLite files"
    for log in folder.rglob("*.log"):
        assert PASSWORD not in log.read_text(encoding="utf-8", errors="replace"), log


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_servers_keep_their_state_there_and_the_password_to_themselves(
    postgres: Postgres, tmp_path: Path
) -> None:
    import psutil

    settings = Settings(
        home=tmp_path,
        prefect_port=choose_free_port("127.0.0.1"),
        mlflow_port=choose_free_port("127.0.0.1"),
        prefect_database_url=postgres.create("prefect"),
        mlflow_database_url=postgres.create("mlflow"),
    )
    try:
        start_services(settings, lambda line: None, only=("prefect", "mlflow"))
        for name in ("prefect", "mlflow"):
            record = find_process(settings.layout.processes, name)
            assert record is not None
            leader = psutil.Process(record.pid)
            for process in (leader, *leader.children(recursive=True)):
                assert not any(PASSWORD in part for part in process.cmdline())
            assert PASSWORD not in record.log.read_text(encoding="utf-8", errors="replace")
        assert postgres.ask("mlflow", "select count(*) from experiments") == "1"
        assert postgres.ask("prefect", "select count(*) from flow_run") == "0"
    finally:
        stop_services(settings, lambda line: None)


def test_another_kind_of_database_is_refused_without_its_password(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mlflow_database_url=f"mysql://intent:{PASSWORD}@db/mlflow")
    with pytest.raises(ConfigError, match="must start with postgresql://") as error:
        start_services(settings, lambda line: None)
    assert PASSWORD not in str(error.value)
