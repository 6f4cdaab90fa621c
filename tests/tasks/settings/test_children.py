"""A process gets the variables that its row of the table names, and no others."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.maintenance.checks import Examination
from tasks.maintenance.checks.environment import check_environment
from tasks.settings import CHECKOUT, Settings, get_settings, training_environment
from tasks.settings.children import PASSED, Child, child_environment, list_dropped
from tasks.system.processes import start_process

# What people have set for programs of their own, and what no program needs from us.
FOREIGN = {
    "VLLM_USE_MODELSCOPE": "True",
    "VLLM_API_KEY": "sk-of-another",
    "VLLM_PORT": "29100",
    "MLFLOW_REGISTRY_URI": "http://registry.example",
    "TRANSFORMERS_OFFLINE": "0",
    "PREFECT_PROFILE": "cloud",
    "PREFECT_API_KEY": "pnu_of_another",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////tmp/another.db",
    "PYTHONSTARTUP": "/tmp/evil.py",
    "LD_PRELOAD": "/tmp/evil.so",
    "AWS_SECRET_ACCESS_KEY": "of-the-store",
    "OSS_ACCESS_KEY_SECRET": "of-the-store",
    "INTENT_RECEIVER_SECRET": "of-the-receiver",
    "INTENT_MLFLOW_DATABASE_URL": "postgresql://u:p@db.example/mlflow",
}


@pytest.mark.parametrize("child", PASSED)
def test_nothing_foreign_is_passed(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    environment = child_environment(child, INTENT_KEYS_FILE="keys")
    assert not environment.keys() & FOREIGN.keys()
    assert environment["PATH"] == os.environ["PATH"] and environment["LC_ALL"] == "C.UTF-8"
    assert environment["INTENT_KEYS_FILE"] == "keys"


def test_each_gets_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "OTEL_EXPORTER_OTLP_ENDPOINT", "HTTPS_PROXY", "PGSSLMODE"):
        monkeypatch.setenv(name, "x")
    got = {
        name: {child for child in PASSED if name in child_environment(child)}
        for name in ("CUDA_VISIBLE_DEVICES", "HTTPS_PROXY", "PGSSLMODE", "DO_NOT_TRACK")
    }
    assert got == {
        "CUDA_VISIBLE_DEVICES": {"vllm", "training"},
        "HTTPS_PROXY": {"prefect"},
        "PGSSLMODE": {"postgres"},
        "DO_NOT_TRACK": {"prefect", "mlflow", "vllm", "training"},
    }
    assert training_environment()["HF_HUB_OFFLINE"] == "1"


def test_the_user_adds_names_and_doctor_lists_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INTENT_PASS_ENV", "VLLM_PORT, PYTHONSTARTUP")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    assert child_environment("gateway")["VLLM_PORT"] == "29100"
    dropped = list_dropped()
    assert {"VLLM_USE_MODELSCOPE", "MLFLOW_REGISTRY_URI", "LD_PRELOAD"} <= set(dropped)
    assert not {"VLLM_PORT", "PYTHONSTARTUP", "DO_NOT_TRACK", "PYTHONUNBUFFERED"} & set(dropped)
    (note,) = check_environment(Examination(Settings(home=tmp_path)))
    assert note.outcome == "note" and "VLLM_USE_MODELSCOPE" in note.what
    assert "pnu_of_another" not in note.model_dump_json()


def test_a_process_really_gets_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FOREIGN.items():
        if name != "LD_PRELOAD":
            monkeypatch.setenv(name, value)
    script = "import os; print(*os.environ, sep='\\n')"
    record = start_process(tmp_path, "vllm-x", [sys.executable, "-c", script], 1, "vllm", MINE="1")
    os.waitpid(record.pid, 0)
    names = record.log.read_text().split()
    assert "MINE" in names and not set(names) & FOREIGN.keys()
    assert record.log.stat().st_mode & 0o077 == 0


def test_an_invalid_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from intent_core.errors import ConfigError

    monkeypatch.setenv("INTENT_PASS_ENV", "VLLM_*")
    get_settings.cache_clear()
    with pytest.raises(ConfigError, match="INTENT_PASS_ENV"):
        get_settings()


def test_every_process_has_an_environment_of_its_own() -> None:
    bare = []
    for room in ("flows", "tasks", "intent_core"):
        for path in sorted((CHECKOUT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                is_start = isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    *("subprocess.run", "subprocess.Popen", "subprocess.check_output"),
                )
                if is_start and "env" not in {k.arg for k in node.keywords}:  # type: ignore[attr-defined]
                    bare.append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not bare


def test_our_modules_are_found_without_pythonpath(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tasks.settings.log_setup as m; print(m.__file__)"],
        env=child_environment("prefect"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(CHECKOUT)
