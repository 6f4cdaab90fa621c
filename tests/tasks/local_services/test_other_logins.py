"""Servers of others with a login: a wrong one is named, at once and without a trace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intent_core.errors import LoginRefusedError
from tasks.orchestration.retries import worth_a_retry
from tasks.settings import CHECKOUT, Settings
from tasks.tracking.runs import require_tracking_login
from tests.support.builders.labeled_export import write_export

pytestmark = pytest.mark.service

PREFECT = "set PREFECT_API_AUTH_STRING to `user:password` of that server, or PREFECT_API_KEY"
MLFLOW = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def run_elsewhere(
    platform: Settings, home: Path, *command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `intent` in another home, to which the servers of the platform are those of others."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_TR"))}
    environment = {
        **ours,
        "INTENT_HOME": str(home),
        "INTENT_PREFECT_URL": platform.prefect_api_url,
        "INTENT_MLFLOW_URL": platform.mlflow_tracking_url,
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "flows", *command],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("login", ["", "admin:wrong", "admin"])
@pytest.mark.parametrize("command", ["run", "automations", "watch", "approve"])
def test_prefects_variable_is_named(
    platform: Settings, tmp_path: Path, login: str, command: str
) -> None:
    export = write_export(tmp_path / "export.manifest")
    arguments = [str(export)] if command == "run" else []
    variables = {"PREFECT_API_AUTH_STRING": login} if login else {}
    done = run_elsewhere(platform, tmp_path / "home", command, *arguments, **variables)
    assert done.returncode == 2, done.stderr
    assert PREFECT in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and "wrong" not in done.stderr


@pytest.mark.parametrize("password", ["", "of another server"])
def test_mlflows_variables_are_named_before_the_training(
    platform: Settings, tmp_path: Path, password: str
) -> None:
    export = write_export(tmp_path / "export.manifest")
    done = run_elsewhere(
        platform,
        tmp_path / "home",
        *("run", str(export)),
        PREFECT_API_AUTH_STRING=platform.read_prefect_login(),
        **({"MLFLOW_TRACKING_USERNAME": "platform"} if password else {}),
        **({"MLFLOW_TRACKING_PASSWORD": password} if password else {}),
    )
    assert done.returncode == 2, done.stderr
    assert MLFLOW in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and "Retrying" not in done.stderr


def test_a_refused_login_is_not_retried(
    platform: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.states import exception_to_failed_state

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "of another server")
    theirs = platform.model_copy(update={"mlflow_url": platform.mlflow_tracking_url})
    with pytest.raises(LoginRefusedError) as refused:
        require_tracking_login(theirs)
    import anyio

    state = anyio.run(exception_to_failed_state, refused.value)
    assert not worth_a_retry(None, None, state)  # type: ignore[arg-type]


def test_an_mlflow_that_is_down_does_not_stop_a_run(platform: Settings, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    require_tracking_login(platform.model_copy(update={"mlflow_url": url}))
