"""Read a recipe from YAML, apply overrides, validate it and report all errors at once."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from intent_core.errors import ConfigError
from intent_core.recipe.config import PipelineConfig


def load_config(
    path: Path | None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> PipelineConfig:
    """Read a recipe and apply overrides.

    Args:
        path: a YAML file; None: the defaults.
        overrides: values by dotted key, as `{"train.seed": 1}` or `["train.seed=1"]`.

    Raises:
        ConfigError: the recipe or an override is wrong; lists every error with the allowed values.
    """
    tree = _read_yaml(path) if path else {}
    faults: list[str] = []
    for key, value in _override_items(overrides, faults):
        _set_dotted(tree, key, value, faults)
    try:
        config = PipelineConfig.model_validate(tree)
    except ValidationError as error:
        faults += [_explain(e) for e in error.errors(include_url=False)]
    if faults:
        where = f"recipe {path}" if path else "recipe"
        listed = "\n".join(f"  {i}. {fault}" for i, fault in enumerate(faults, 1))
        raise ConfigError(f"{where} has {len(faults)} error(s):\n{listed}")
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"recipe {path} must be a mapping of sections, not {type(tree).__name__}")
    # An empty section (`train:`) is None in YAML and means the defaults.
    return {key: value for key, value in tree.items() if value is not None}


def _override_items(
    overrides: Mapping[str, Any] | Sequence[str], faults: list[str]
) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return [
            (k, _scalar(v, k, faults) if isinstance(v, str) else v) for k, v in overrides.items()
        ]
    items = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            faults.append(f"override {text!r}: write it as section.key=value")
        else:
            items.append((key.strip(), _scalar(value, key, faults)))
    return items


def _scalar(text: str, key: str, faults: list[str]) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        faults.append(f"override {key!r}: {text!r} is not a YAML value: put it in quotes")
        return text
    # YAML 1.1 parses 3e-4 as text, not as a number.
    if isinstance(value, str):
        try:
            return float(value) if value[:1].isdigit() else value
        except ValueError:
            return value
    return value


def _set_dotted(tree: dict[str, Any], dotted: str, value: Any, faults: list[str]) -> None:
    *sections, leaf = dotted.split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            faults.append(f"override {dotted!r}: {section!r} is a value, not a section")
            return
    node[leaf] = value


def _explain(error: Any) -> str:
    """Describe one pydantic error, with the allowed values."""
    location = ".".join(str(p) for p in error["loc"]) or "recipe"
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{location}: no such key.{hint} Allowed: {', '.join(allowed)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{location}: {message}"
    return f"{location}: {error['input']!r} is not allowed: {message}"


def _allowed_keys(location: Sequence[Any]) -> list[str]:
    model: Any = PipelineConfig
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        model = field.annotation if field else None
        if get_origin(model) is not None:
            model = next((a for a in get_args(model) if hasattr(a, "model_fields")), None)
        if model is None:
            return []
    return sorted(model.model_fields)
