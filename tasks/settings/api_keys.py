"""API keys: the operator's key, the keys of callers, and the key for a fleet's public address."""

import secrets
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from intent_core.errors import ConfigError
from intent_core.files import write_atomically
from intent_core.serving.access.api_keys import is_key, read_keys
from tasks.settings.home_layout import HomeLayout
from tasks.settings.pai import get_pai_settings


class KeySettings(BaseSettings):
    """The settings for API keys; key files that are not set are generated in `home`."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    home: Path
    api_key: SecretStr | None = None
    """The operator's API key for the model servers. Not set: generated once, in `home`."""
    inference_keys: Path | None = None
    """File with the API keys of callers, one `name key` per line; reloaded when it changes. Not
    set: generated once, in `home`."""

    @property
    def layout(self) -> HomeLayout:
        """The paths in `home`."""
        return HomeLayout(self.home)

    @property
    def api_key_file(self) -> Path:
        return self.layout.api_key

    @property
    def inference_keys_file(self) -> Path:
        return self.inference_keys or self.layout.inference_keys

    def read_api_key(self) -> str:
        """Return the operator's key; the first call generates it (file mode 0600).

        Raises `ConfigError` for a key that is too short or cannot be sent in a header.
        """
        if self.api_key is not None:
            source, key = "INTENT_API_KEY", self.api_key.get_secret_value()
        else:
            create_once(self.api_key_file, secrets.token_urlsafe(32))
            source, key = str(self.api_key_file), self.api_key_file.read_text().strip()
        if not is_key(key):
            raise ConfigError(
                f"{source} is not a key of 16 or more printable ASCII characters without "
                "whitespace: set another, e.g. from `openssl rand -hex 24`"
            )
        return key

    def ensure_inference_keys(self) -> Path:
        """Return the path of the key file; if not set, generate it with one key (mode 0600)."""
        # Do not resolve links: Kubernetes updates a mounted Secret by replacing one.
        path = self.inference_keys_file.absolute()
        if self.inference_keys is None:
            create_once(path, f"default {secrets.token_urlsafe(32)}\n")
        elif not path.is_file():
            raise ConfigError(
                f"INTENT_INFERENCE_KEYS={path}: file not found. Create it with one `name key` per "
                "line"
            )
        return path

    def read_inference_key(self) -> str:
        """Return the first key of the file, for callers on this machine."""
        path = self.ensure_inference_keys()
        keys, problems = read_keys(path.read_bytes())
        if not keys:
            what = f"does not contain a key ({problems[0]})" if problems else "is empty"
            raise ConfigError(f"{path} {what}: add a line `name key`")
        return next(iter(keys.values()))

    def read_public_key(self) -> str:
        """Return the key for our own requests to a fleet's public address.

        EAS accepts only its own token, which `intent pai deploy` writes as the first key.
        """
        return self.read_inference_key() if get_pai_settings().service else self.read_api_key()


def create_once(path: Path, content: str) -> None:
    """Write a key file; if several processes do this at once, the first one wins."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, content, mode=0o600, overwrite=False)
