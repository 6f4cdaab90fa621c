"""Addresses that servers listen on, and the generated logins."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from intent_core.errors import ConfigError
from tasks.local_services.services import running_services, start_services
from tasks.serving.gateway.nginx import format_gateway_config
from tasks.settings import Settings, client_logins, get_settings
from tasks.system.ports import choose_free_port, require_free_port


def test_a_login_is_generated_once_and_for_its_owner_only(tmp_path: Path) -> None:
    login = Settings(home=tmp_path).read_prefect_login()
    assert Settings(home=tmp_path).read_prefect_login() == login
    path = tmp_path / "secrets" / "prefect_login"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert len(login.removeprefix("admin:")) > 40


@pytest.mark.parametrize("content", ["", "\n", "admin", "admin:", ":" + "x" * 30, "admin:short"])
def test_a_login_that_protects_nothing_is_refused(tmp_path: Path, content: str) -> None:
    settings = Settings(home=tmp_path)
    settings.layout.prefect_login.parent.mkdir()
    settings.layout.prefect_login.write_text(content)
    with pytest.raises(ConfigError, match="prefect_login must contain `user:password`"):
        settings.read_prefect_login()


def test_the_login_of_this_home_is_sent_to_no_other_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {
        "prefect_url": "http://prefect.example/api",
        "mlflow_url": "http://mlflow.example",
        "mlflow_login": True,
    }
    assert client_logins(Settings(home=tmp_path, **theirs)) == {}
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    assert client_logins(Settings(home=tmp_path, mlflow_login=False)) == {}
    assert not (tmp_path / "secrets").exists()


def test_a_variable_of_an_earlier_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opened Prefect and MLflow as well; without it the gateway would silently close."""
    monkeypatch.setenv("INTENT_HOST", "0.0.0.0")
    get_settings.cache_clear()
    with pytest.raises(ConfigError, match=r"INTENT_HOST=0\.0\.0\.0.*INTENT_GATEWAY_HOST"):
        get_settings()


def test_the_gateways_address_is_the_gateways_only(tmp_path: Path) -> None:
    ports = {"prefect_port": 4200, "mlflow_port": 5000, "gateway_port": 8000}
    settings = Settings(home=tmp_path, gateway_host="0.0.0.0", **ports)
    assert settings.prefect_api_url == "http://127.0.0.1:4200/api"
    assert settings.mlflow_tracking_url == "http://127.0.0.1:5000"
    assert settings.endpoint == "http://127.0.0.1:8000/v1"
    assert "listen 0.0.0.0:8000;" in format_gateway_config(settings, tmp_path)


def test_an_ipv6_address_is_written_in_brackets(tmp_path: Path) -> None:
    hosts = {"gateway_host": "::", "prefect_host": "::1"}
    settings = Settings(home=tmp_path, **hosts, gateway_port=8000, prefect_port=4200)
    assert settings.endpoint == "http://[::1]:8000/v1"
    assert settings.prefect_api_url == "http://[::1]:4200/api"
    assert "listen [::]:8000;" in format_gateway_config(settings, tmp_path)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "2001:db8::1"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    port = choose_free_port("127.0.0.1")
    with pytest.raises(ConfigError, match=f"INTENT_GATEWAY_HOST={host} is not an address of this"):
        require_free_port(host, port, "gateway", "INTENT_GATEWAY_PORT")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "intent.example"])
def test_mlflow_is_not_opened_without_a_login(tmp_path: Path, host: str) -> None:
    ports = {f"{name}_port": choose_free_port("127.0.0.1") for name in ("prefect", "gateway")}
    settings = Settings(home=tmp_path, mlflow_host=host, mlflow_login=False, **ports)
    with pytest.raises(ConfigError, match="INTENT_MLFLOW_LOGIN=true"):
        start_services(settings, lambda line: None)
    assert running_services(settings) == {}


@pytest.mark.parametrize("name", ["PREFECT", "MLFLOW", "GATEWAY", "GATEWAY_LOCAL"])
@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_a_port_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, port: str
) -> None:
    monkeypatch.setenv(f"INTENT_{name}_PORT", port)
    done = CliRunner().invoke(app, ["status"])
    get_settings.cache_clear()
    assert done.exit_code == 2, done.output
    assert f"INTENT_{name}_PORT='{port}': Input should be" in done.stderr


@pytest.mark.parametrize("host", ["10.9.9.9", "no-such-host.invalid", "x" * 70, "[::1]", "a b"])
def test_up_names_an_address_that_is_not_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str
) -> None:
    monkeypatch.setenv("INTENT_HOME", str(tmp_path))
    monkeypatch.setenv("INTENT_GATEWAY_HOST", host)
    monkeypatch.delenv("PREFECT_API_URL")
    for name in ("PREFECT", "MLFLOW", "GATEWAY"):
        monkeypatch.setenv(f"INTENT_{name}_PORT", str(choose_free_port("127.0.0.1")))
    get_settings.cache_clear()
    done = CliRunner().invoke(app, ["up"])
    get_settings.cache_clear()
    assert done.exit_code == 2, done.output
    assert f"INTENT_GATEWAY_HOST={host} is not an address of this machine" in done.stderr


def test_a_port_reserved_for_root_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(ConfigError, match="port 80 for gateway is reserved for root"):
        require_free_port("127.0.0.1", 80, "gateway", "INTENT_GATEWAY_PORT")
