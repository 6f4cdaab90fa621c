"""Read a recipe from YAML, apply overrides, validate it and report all errors at once.

The label vocabulary is a file of its own; a loaded recipe contains it, so that it needs no other
file on the machines it is sent to.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from intent_core.errors import ConfigError
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.explain_errors import explain, list_faults
from intent_core.recipe.vocabulary_file import VOCABULARY_FILE, read_vocabulary

_REPLACED = {
    ("evaluate", "constrained"): "write serve.grounded: always (or never, or auto, the default)"
}


def load_config(
    path: Path | None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> PipelineConfig:
    """Read a recipe with its vocabulary and apply overrides.

    Args:
        path: a YAML file; None: the defaults. `intents.yaml` next to it is its vocabulary, unless
            `data.vocabulary` names another file.
        overrides: values by dotted key, as `{"train.seed": 1}`, or texts as `["train.seed=1"]`,
            whose values are YAML. A text in a mapping stays a text.

    Raises:
        ConfigError: the recipe, an override or the vocabulary is wrong; lists every error with the
            allowed values.
    """
    tree = _with_vocabulary_path(_read_yaml(path), path.parent) if path else {}
    faults: list[str] = []
    for key, value in _override_items(overrides, faults):
        _set_dotted(tree, key, value, faults)
    _refuse_old_keys(tree, faults)
    _read_vocabulary_in(tree)
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


def _refuse_old_keys(tree: dict[str, Any], faults: list[str]) -> None:
    for (section, key), instead in _REPLACED.items():
        if isinstance(tree.get(section), dict) and key in tree[section]:
            faults.append(f"{section}.{key}: this key is replaced: {instead}")


def _with_vocabulary_path(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the recipe with the path of its vocabulary, if it has one."""
    data = tree.get("data", {})
    if not isinstance(data, dict):
        return tree
    name = data.get("vocabulary", VOCABULARY_FILE)
    if not isinstance(name, str) or ("vocabulary" not in data and not (folder / name).is_file()):
        return tree
    return {**tree, "data": {**data, "vocabulary": str(folder / name)}}


def _read_vocabulary_in(tree: dict[str, Any]) -> None:
    """Replace the path of the vocabulary, if there is one, with its content."""
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(data.get("vocabulary"), str):
        data["vocabulary"] = read_vocabulary(Path(data["vocabulary"]))


def _override_items(
    overrides: Mapping[str, Any] | Sequence[str], faults: list[str]
) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    items = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            faults.append(f"override {text!r}: write it as section.key=value")
            continue
        try:
            items.append((key.strip(), parse_value(value, key)))
        except ConfigError as error:
            faults.append(str(error))
    return items


def parse_value(text: str, key: str) -> Any:
    """Return the YAML value of an override's text.

    Args:
        text: the value, such as `3e-4` or `[a, b]`.
        key: the key it is for, named in the error.

    Raises:
        ConfigError: the text is not YAML.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"override {key!r}: {text!r} is not a YAML value: put it in quotes"
        ) from None
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
