"""The embedded MLflow's login: the options and variables of its server."""

import configparser
import sys
from io import StringIO

from intent_core.errors import ConfigError
from intent_core.files import write_atomically
from tasks.settings import Settings
from tasks.settings.addresses import is_loopback
from tasks.settings.home_layout import sqlite_url

DEFAULT_PERMISSION = "READ"
"""What a user may do with the experiments and models of others."""


def require_login(settings: Settings) -> None:
    """Raise `ConfigError` if MLflow would listen beyond this machine without a login."""
    if not settings.mlflow_login and not is_loopback(settings.mlflow_host):
        raise ConfigError(
            f"INTENT_MLFLOW_HOST={settings.mlflow_host} would open MLflow to other machines "
            "without a login: set INTENT_MLFLOW_LOGIN=true as well"
        )


def mlflow_command(settings: Settings) -> list[str]:
    """Return the start of the server's command line."""
    if not settings.mlflow_login:
        return [sys.executable, "-m", "mlflow", "server"]
    launcher = "tasks.local_services.mlflow_with_users"
    return [sys.executable, "-m", launcher, "server", "--app-name", "basic-auth"]


def prepare_mlflow(settings: Settings) -> dict[str, str]:
    """Write the configuration of the login; return the variables of the server that are secret."""
    settings.layout.mlflow.mkdir(parents=True, exist_ok=True)
    if not settings.mlflow_login:
        return {}
    write_atomically(settings.layout.mlflow_login_config, _format_config(settings), mode=0o600)
    return {
        "INTENT_HOME": str(settings.home),
        "MLFLOW_AUTH_CONFIG_PATH": str(settings.layout.mlflow_login_config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": settings.read_mlflow_secret("session_key"),
    }


def _format_config(settings: Settings) -> str:
    config = configparser.ConfigParser()
    users = sqlite_url("sqlite", settings.layout.mlflow_users)
    config["mlflow"] = {
        "default_permission": DEFAULT_PERMISSION,
        "database_uri": users.replace("%", "%%"),
        "admin_username": "admin",
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    text = StringIO()
    config.write(text)
    return text.getvalue()
