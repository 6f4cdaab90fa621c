"""Keys to the model servers: the operator's, the callers', and those for a fleet's address."""

import secrets
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from intent_core.errors import ConfigError
from intent_core.files import write_atomically
from tasks.settings.home_layout import HomeLayout
from tasks.settings.pai import get_pai_settings


class KeySettings(BaseSettings):
    """The settings that name the keys; files that are not named are created below `home`."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    home: Path
    api_key: SecretStr | None = None
    """The operator's key to the model servers; unset: made once below `home`."""
    inference_keys: Path | None = None
    """File of the callers' keys, a `name key` a line, read again when it changes; unset: made once
    below `home`."""

    @property
    def layout(self) -> HomeLayout:
        """The paths below `home`."""
        return HomeLayout(self.home)

    @property
    def api_key_file(self) -> Path:
        return self.layout.api_key

    @property
    def inference_keys_file(self) -> Path:
        return self.inference_keys or self.layout.inference_keys

    def read_api_key(self) -> str:
        """The operator's key; created with mode 0600 the first time."""
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        _create_once(self.api_key_file, secrets.token_urlsafe(32))
        return self.api_key_file.read_text().strip()

    def ensure_inference_keys(self) -> Path:
        """The file of the callers' keys; ours is created with a first key, mode 0600."""
        # Links stay: Kubernetes updates a mounted Secret by turning one.
        path = self.inference_keys_file.absolute()
        if self.inference_keys is None:
            _create_once(path, f"default {secrets.token_urlsafe(32)}\n")
        elif not path.is_file():
            raise ConfigError(
                f"INTENT_INFERENCE_KEYS={path}: no such file; write a `name key` a line into it"
            )
        return path

    def read_inference_key(self) -> str:
        """The first of the callers' keys, for a caller on this machine."""
        path = self.ensure_inference_keys()
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = line.split()
            if len(fields) == 2 and not line.startswith("#"):
                return fields[1]
        raise ConfigError(f"{path} has no key: write a `name key` line into it")

    def read_public_key(self) -> str:
        """The key of our own requests to a fleet's public address.

        EAS accepts only its token, which `intent pai deploy` has put before the callers' keys.
        """
        return self.read_inference_key() if get_pai_settings().service else self.read_api_key()


def _create_once(path: Path, content: str) -> None:
    """Of several processes the first one's key is the key."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, content, mode=0o600, overwrite=False)
