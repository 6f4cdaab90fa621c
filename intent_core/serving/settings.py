"""The settings of the middleware, read from environment variables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from intent_core.errors import ConfigError
from intent_core.serving.grounding.choice import MODES

_NUMBER = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Files, keys and limits of one vLLM server."""

    aliases_file: Path
    keys_file: Path
    operator_key: str
    """The API key that vLLM was started with."""
    models_folder: Path | None = None
    """Folder with a folder per model, whose vocabulary callers can read; None: they cannot."""
    requests_per_minute: int = 0
    """Rate limit of each API key in each process; 0 means no limit."""
    answers_per_key: int = 16
    """Maximum number of answers in progress for each API key; 0 means no limit."""
    tokens_per_key: int = 0
    """Maximum number of tokens, of prompts and answers in progress, for each API key; 0 means no
    limit."""
    max_body_bytes: int = 262_144
    add_system_prompt: bool = True
    """Add the model's system prompt to chats without one."""
    drafts: bool = False
    """vLLM runs with speculative decoding, which does not support all sampling parameters."""
    max_new_tokens: int = 0
    """Maximum number of tokens a caller can request; 0 means no limit besides the model's."""
    grounded: str = "auto"
    """Which models answer under a grammar of their request: `serve.grounded` of the recipe."""


def read_settings(environment: Mapping[str, str]) -> ServingSettings:
    """Read the settings from environment variables.

    Args:
        environment: the environment variables.

    Raises:
        ConfigError: a variable is missing or invalid.
    """
    models = environment.get("INTENT_MODELS_FOLDER", "")
    return ServingSettings(
        aliases_file=Path(_require(environment, "INTENT_ALIASES_FILE")),
        keys_file=Path(_require(environment, "INTENT_KEYS_FILE")),
        operator_key=_require(environment, "VLLM_API_KEY"),
        models_folder=Path(models) if models else None,
        requests_per_minute=_number(environment, "INTENT_REQUESTS_PER_MINUTE", 0),
        answers_per_key=_number(environment, "INTENT_ANSWERS_PER_KEY", 16),
        tokens_per_key=_number(environment, "INTENT_TOKENS_PER_KEY", 0),
        max_body_bytes=_number(environment, "INTENT_MAX_BODY_BYTES", 262_144),
        add_system_prompt=_switch(environment, "INTENT_ADD_SYSTEM_PROMPT"),
        drafts=_switch(environment, "INTENT_DRAFTS", "false"),
        max_new_tokens=_number(environment, "INTENT_MAX_NEW_TOKENS", 0),
        grounded=_choice(environment, "INTENT_GROUNDED", MODES),
    )


def _require(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise ConfigError(f"{name} is not set: the model server requires it")
    return value


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, "").strip()
    if value and not _NUMBER.fullmatch(value):
        raise ConfigError(f"{name} is {value!r}: expected an integer, 0 or more")
    return int(value) if value else default


def _choice(environment: Mapping[str, str], name: str, values: Sequence[str]) -> str:
    """Return a variable with one of these values; the first one if it is not set."""
    value = environment.get(name, "").strip().lower() or values[0]
    if value not in values:
        raise ConfigError(f"{name} is {value!r}: expected one of {', '.join(values)}")
    return value


def _switch(environment: Mapping[str, str], name: str, default: str = "true") -> bool:
    """Return a boolean variable."""
    value = environment.get(name, "").strip().lower() or default
    if value not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
        raise ConfigError(f"{name} is {value!r}: expected true or false")
    return value not in ("0", "false", "no", "off")
