"""What the embedded servers answer to a program, or a web page, that has no login."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect.client.orchestration import get_client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_websocket

from intent_core.errors import ConfigError
from tasks.local_services.services import running_services
from tasks.orchestration.prefect_client import connect
from tasks.orchestration.work_pools import ensure_work_pools
from tasks.settings import CHECKOUT, Settings
from tests.support.processes.listeners import find_exposed

pytestmark = pytest.mark.service

PAGE = {"Origin": "https://evil.example"}
PATHS = [
    ("POST", "/flows/"),
    ("POST", "/deployments/"),
    ("POST", "/work_pools/filter"),
    ("POST", "/flow_runs/filter"),
    ("POST", "/block_documents/filter"),
    ("POST", "/events"),
    ("PUT", "/work_pools/cpu"),
    ("PATCH", "/work_pools/cpu"),
    ("GET", "/admin/settings"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("host", ["", "evil.example", "localhost"])
@pytest.mark.parametrize("login", ["", "admin:", "admin:admin"])
def test_prefect_takes_no_command_without_its_login(
    platform: Settings, method: str, path: str, host: str, login: str
) -> None:
    headers = {**PAGE, **({"Host": host} if host else {})}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    body = {"name": "evil"}
    answer = httpx.request(method, platform.prefect_api_url + path, json=body, headers=headers)
    assert answer.status_code == 401
    assert "access-control-allow-origin" not in answer.headers


def test_prefect_takes_no_event_from_a_web_page(platform: Settings) -> None:
    """A browser opens WebSockets to any server, without asking it."""
    url = platform.prefect_api_url.replace("http", "ws", 1) + "/events/in"
    with (
        pytest.raises((ConnectionClosed, InvalidStatus)),
        open_websocket(url, origin="https://evil.example", subprotocols=["prefect"]) as socket,  # type: ignore[arg-type,list-item]
    ):
        socket.send(json.dumps({"type": "auth", "token": "admin:admin"}))
        socket.recv(timeout=30)
        socket.recv(timeout=30)


def test_prefects_own_pages_may_call_it(platform: Settings) -> None:
    for name in ("127.0.0.1", "localhost"):
        headers = {
            "Origin": f"http://{name}:{platform.prefect_port}",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        url = f"{platform.prefect_api_url}/flows/filter"
        answer = httpx.options(url, headers=headers)
        assert answer.headers["access-control-allow-origin"] == headers["Origin"]
    assert httpx.options(url, headers={**headers, **PAGE}).status_code == 400


def test_another_login_is_explained(platform: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

    with (
        temporary_settings({PREFECT_API_AUTH_STRING: "admin:another"}),
        pytest.raises(ConfigError, match="refused our login: it was started with another login"),
        connect(platform),
    ):
        pass


def test_a_pool_of_an_earlier_version_offers_no_command(platform: Settings) -> None:
    from prefect.client.schemas.actions import WorkPoolUpdate

    with get_client(sync_client=True) as client:
        template = client.read_work_pool("cpu").base_job_template
        assert "command" not in json.dumps(template["job_configuration"])
        earlier = json.loads(json.dumps(template))
        earlier["variables"]["properties"]["command"] = {"type": "string"}
        earlier["variables"]["properties"]["labels"]["default"] = {"team": "ours"}
        earlier["job_configuration"]["command"] = "{{ command }}"
        client.update_work_pool("cpu", WorkPoolUpdate(base_job_template=earlier))
        ensure_work_pools()
        after = client.read_work_pool("cpu").base_job_template
        client.update_work_pool("cpu", WorkPoolUpdate(base_job_template=template))
    assert "command" not in after["variables"]["properties"]
    assert "command" not in after["job_configuration"]
    assert after["variables"]["properties"]["labels"]["default"] == {"team": "ours"}


def test_mlflow_refuses_a_caller_without_a_login(platform: Settings) -> None:
    url = f"{platform.mlflow_tracking_url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, auth=("admin", "password1234")).status_code == 401
    assert httpx.get(platform.mlflow_tracking_url).status_code == 401


def test_mlflows_reviewer_reads_and_does_not_write(
    platform: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = MlflowClient(platform.mlflow_tracking_url)
    experiment = ours.create_experiment("a project that is reviewed")
    run = ours.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reviewer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", platform.read_mlflow_secret("reviewer"))
    theirs = MlflowClient(platform.mlflow_tracking_url)
    assert theirs.get_run(run).info.run_id == run
    for write in (
        lambda: theirs.set_tag(run, "intent.verdict", "promoted"),
        lambda: theirs.delete_run(run),
        lambda: theirs.delete_experiment(experiment),
    ):
        with pytest.raises(MlflowException, match="Permission denied"):
            write()


_CREATE_TWICE = """
import sys
from pathlib import Path
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from tasks.local_services.mlflow_with_users import create_users
from tasks.settings.home_layout import HomeLayout, sqlite_url

home = Path(sys.argv[1])
layout, store = HomeLayout(home), SqlAlchemyStore()
layout.mlflow.mkdir(parents=True)
create_users(home)
former = (layout.mlflow_secrets / "platform").read_text().strip()
(layout.mlflow_secrets / "platform").unlink()
store.init_db(sqlite_url("sqlite", layout.mlflow_users))
store.create_user("colleague", "a password of hers")
create_users(home)
present = (layout.mlflow_secrets / "platform").read_text().strip()
print(former != present)
for user, password in (
    ("platform", former),
    ("platform", present),
    ("reviewer", (layout.mlflow_secrets / "reviewer").read_text().strip()),
    ("colleague", "a password of hers"),
):
    print(store.authenticate_user(user, password))
print([user.username for user in store.list_users() if user.is_admin])
"""


def test_mlflows_passwords_are_those_of_the_files_at_each_start(tmp_path: Path) -> None:
    """After a restore without `secrets` the pipeline must still log in."""
    command = [sys.executable, "-W", "ignore", "-c", _CREATE_TWICE, str(tmp_path / "a %2F home")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    lines = done.stdout.splitlines()
    assert lines == ["True", "False", "True", "True", "True", "['admin', 'platform']"], done.stderr


def test_no_login_is_on_a_command_line_or_in_a_log(platform: Settings) -> None:
    secrets = [platform.read_prefect_login().partition(":")[2]]
    secrets += [platform.read_mlflow_secret(name) for name in ("admin", "platform", "reviewer")]
    secrets += [platform.read_mlflow_secret("session_key")]
    shown = [log.read_text("utf-8", "replace") for log in platform.layout.processes.glob("*")]
    for pid in running_services(platform).values():
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        shown += [" ".join(process.cmdline()) for process in family]
    assert not [text for text in shown for secret in secrets if secret in text]


def test_every_server_listens_on_loopback_only(platform: Settings) -> None:
    assert not [line for pid in running_services(platform).values() for line in find_exposed(pid)]
