"""Read a label vocabulary (`intents.yaml`), and report all of its errors at once with their lines.

Every scalar is read as the text in the file: YAML 1.1 reads `on` and `no` as booleans
and 2024-05-01 as a date, and a label has text only.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from intent_core.errors import ConfigError
from intent_core.language.vocabulary import Vocabulary
from intent_core.recipe.explain_errors import explain, list_faults

VOCABULARY_FILE = "intents.yaml"
"""Its name in the folder of a recipe."""

KeyPath = tuple[str, ...]
"""Keys from the root: ("intents", "weather_search", "slots", "0", "type")."""


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a label vocabulary.

    Args:
        path: a YAML file.

    Raises:
        ConfigError: the file is not a vocabulary; lists every error with its line.
    """
    reading = _Reading()
    root = _compose(path)
    try:
        tree = reading.read(root, ()) if root else None
    except RecursionError as error:
        raise ConfigError(f"vocabulary {path} is nested too deeply") from error
    if not isinstance(tree, dict):
        actual = "empty" if tree is None else "not a mapping"
        raise ConfigError(
            f"vocabulary {path} is {actual}: write `intents:` with an entry for each intent, or "
            "let `intent vocabulary EXPORT` write a first one"
        )
    try:
        vocabulary = Vocabulary.model_validate(tree)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            text = explain(fault, Vocabulary, "vocabulary")
            reading.faults.append((reading.find_line(fault["loc"]), text))
    if reading.faults:
        listed = [f"line {line}: {text}" for line, text in sorted(reading.faults)]
        raise list_faults(f"vocabulary {path}", listed)
    return vocabulary


def _compose(path: Path) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(
            path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader
        )
    except OSError as error:
        raise ConfigError(f"vocabulary {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"vocabulary {path} is not UTF-8: save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"vocabulary {path} is not YAML: {error}") from error
    return node


class _Reading:
    """What was noticed while the nodes of a file are turned into values."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[tuple[int, str]] = []

    def read(self, node: yaml.Node, place: KeyPath) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*place, str(i))) for i, item in enumerate(node.value)]
        return self._read_scalar(node, place)

    def _read_scalar(self, node: Any, place: KeyPath) -> str | None:
        text = str(node.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            where = ".".join(place)
            fault = f"{where}: {text!r} has an unpaired UTF-16 surrogate: write the character"
            self.faults.append((node.start_mark.line + 1, fault))
        return None if not text and node.style is None else text

    def _read_mapping(self, node: yaml.MappingNode, place: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = str(key_node.value)
            where = ".".join((*place, key))
            if not isinstance(key_node, yaml.ScalarNode):
                self.faults.append((line, f"{where}: a key must be a text"))
            elif key in mapping:
                first = self.lines[(*place, key)]
                self.faults.append((line, f"{where}: this key is in line {first} already"))
            else:
                self.lines[(*place, key)] = line
                mapping[key] = self.read(value_node, (*place, key))
        return mapping

    def find_line(self, location: tuple[int | str, ...]) -> int:
        """Return the line of the deepest part of a location that the file has."""
        place = tuple(map(str, location))
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines[place]
