"""The logins of the embedded Prefect and MLflow, generated in the folder `secrets` of `home`."""

import secrets
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from intent_core.errors import ConfigError
from tasks.settings.api_keys import create_once
from tasks.settings.home_layout import HomeLayout

MLFLOW_PLATFORM = "platform"
"""The user of MLflow as which the pipeline records runs and registers models."""
_SHORTEST = 16


class LoginSettings(BaseSettings):
    """The settings for the logins of the embedded servers."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    home: Path
    mlflow_login: bool = False
    """Whether the embedded MLflow server requires a login. Users: `admin`, `platform` (the
    pipeline) and `reviewer` (reads only). Passwords are generated in `home`, in
    `secrets/mlflow`."""

    def read_prefect_login(self) -> str:
        """Return `user:password` of the embedded Prefect; the first call generates it (0600)."""
        path = HomeLayout(self.home).prefect_login
        create_once(path, f"admin:{_generate()}\n")
        login = path.read_text(encoding="utf-8").strip()
        user, _, password = login.partition(":")
        if not user or len(password) < _SHORTEST:
            # Prefect would start without a login if this were empty.
            raise ConfigError(
                f"{path} must contain `user:password` with a password of at least {_SHORTEST} "
                "characters: delete the file to generate a login, then restart the servers with "
                "`intent down` and `intent up`"
            )
        return login

    def read_mlflow_secret(self, name: str) -> str:
        """Return a user's password, or the `session_key`; the first call generates it (0600)."""
        path = HomeLayout(self.home).mlflow_secrets / name
        create_once(path, f"{_generate()}\n")
        secret = path.read_text(encoding="utf-8").strip()
        if len(secret) < _SHORTEST:
            raise ConfigError(
                f"{path} must contain at least {_SHORTEST} characters: delete the file to "
                "generate another, then restart MLflow with `intent down` and `intent up`"
            )
        return secret


def _generate() -> str:
    return secrets.token_urlsafe(32)
