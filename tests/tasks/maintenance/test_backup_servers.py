"""Backups of real servers: PostgreSQL, and a complete platform restored elsewhere."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from intent_core.errors import ConfigError, ServiceError
from tasks.maintenance.backup.archive import verify_archive
from tasks.maintenance.backup.backup import back_up
from tasks.maintenance.backup.restore import finish_restore, is_pending, restore
from tasks.settings import Settings
from tests.support.faults.kill_points import die_before
from tests.support.servers.postgres import running_postgres
from tests.support.servers.seaweedfs import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.timeout(900)]


def quiet(line: str) -> None:
    pass


@pytest.fixture
def database() -> Iterator[str]:
    with running_postgres() as server:
        yield server.create("told")


def ask(url: str, statement: str) -> str:
    done = subprocess.run(
        ["psql", "-X", "-tA", "-c", statement, url], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_database_in_postgresql_comes_back(database: str, tmp_path: Path) -> None:
    url = SecretStr(database)
    settings = Settings(
        home=tmp_path / "home", prefect_url="http://prefect.example/api", prefect_database_url=url
    )
    ask(database, "create table told (word text); insert into told values ('old')")
    archive = tmp_path / "state.tar.gz"
    back_up(settings, str(archive), [], quiet)
    about = verify_archive(archive).about
    assert about["databases"]["prefect"] == "dumps/prefect.dump"
    assert database.split(":")[2].split("@")[0] not in str(about)

    ask(database, "insert into told values ('new'); create index on told (word)")
    with pytest.raises(ConfigError, match=r"prefect's database.*--replace"):
        restore(settings, str(archive), replace=False, announce=quiet)
    restore(settings, str(archive), replace=True, announce=quiet)
    assert ask(database, "select string_agg(word, ',') from told") == "old"
    other = Settings(home=tmp_path / "other")
    with pytest.raises(ConfigError, match="cannot be restored into PostgreSQL"):
        restore(other, str(archive), replace=True, announce=quiet)

    nowhere = SecretStr(f"postgresql://intent@127.0.0.1:{free_ports(1)[0]}/postgres")
    with pytest.raises(ServiceError, match=r"psql failed on prefect's database"):
        restore(
            settings.model_copy(update={"prefect_database_url": nowhere}),
            str(archive),
            replace=True,
            announce=quiet,
        )
    assert not is_pending(settings)

    # Killed after staging: the next command loads the dump.
    ask(database, "insert into told values ('new')")
    child = os.fork()
    if child == 0:
        die_before("subprocess.Popen", "pg_restore", 1)
        restore(settings, str(archive), replace=True, announce=quiet)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert is_pending(settings)
    assert ask(database, "select string_agg(word, ',') from told") == "old,new"
    finish_restore(settings)
    assert not is_pending(settings)
    assert ask(database, "select string_agg(word, ',') from told") == "old"


@pytest.mark.e2e
def test_a_platform_comes_back_elsewhere_and_serves_the_same_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back up, restore, `intent up`: the runs, the registry and the model are there again."""
    import json

    from intent_core.recipe.config import ServeConfig
    from tasks.serving.golden import ask_golden
    from tasks.serving.vllm.server import ensure_model_server
    from tasks.settings import get_settings
    from tasks.storage.layout import golden_prefix
    from tasks.storage.step_results import get_store, write_finished
    from tasks.tracking.runs import make_client
    from tests.support.builders.random_models import UTTERANCES, accept, store_model
    from tests.support.scenarios.concurrent_callers import Callers
    from tests.support.scenarios.promotions import promote

    def intent(*arguments: str) -> str:
        # In a subprocess, because Prefect's client reads its server's address once per process.
        command = [sys.executable, "-m", "flows", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def move_to(home: str) -> Settings:
        ports = free_ports(3)
        for name, value in zip(("PREFECT", "MLFLOW", "GATEWAY"), ports, strict=True):
            monkeypatch.setenv(f"INTENT_{name}_PORT", str(value))
        monkeypatch.setenv("INTENT_HOME", str(tmp_path / home))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{ports[0]}/api")
        get_settings.cache_clear()
        return get_settings()

    serve = ServeConfig(mode="merged", alias="kept", max_model_len=128, dtype="float32")
    try:
        settings = move_to("one")
        intent("up")
        artifact = store_model(settings, tmp_path / "model", tiny_model, seed=3, method="full")
        server = ensure_model_server(settings, artifact, serve)
        golden = ask_golden(server.url, settings.read_api_key(), artifact, UTTERANCES[:2])
        write_finished(get_store(settings), golden_prefix(artifact, serve), golden)
        client = make_client(settings)
        client.create_registered_model("served")
        source = f"s3://models/{artifact.name}"
        accept(
            settings, artifact, serve, str(client.create_model_version("served", source).version)
        )
        promote(artifact.name)
        key = settings.read_inference_key()
        said = Callers(settings.endpoint, key, "kept").ask(UTTERANCES[0])
        assert said.model == artifact.name
        intent("backup", str(tmp_path / "state.tar.gz"))
        intent("down")

        settings = move_to("two")
        shutil.copytree(tmp_path / "one" / "secrets", tmp_path / "two" / "secrets")
        intent("restore", str(tmp_path / "state.tar.gz"))
        intent("up")
        intent("reconcile")
        told = json.loads(intent("status", "--json"))
        assert told["answers"] and told["champion"] == told["served"]["version"]
        again = Callers(settings.endpoint, key, "kept").ask(UTTERANCES[0])
        assert (again.model, again.text) == (said.model, said.text)
        intent("doctor")
    finally:
        intent("down")
