"""Read a recipe from YAML, apply overrides, validate it and report all errors at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from intent_core.errors import ConfigError
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.explain_errors import explain, list_faults


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
        faults += [explain(e, PipelineConfig, "recipe") for e in error.errors(include_url=False)]
    if faults:
        where = f"recipe {path}" if path else "recipe"
        raise list_faults(where, faults)
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
