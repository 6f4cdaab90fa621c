"""Fields of the models as tables of Markdown, in English and Chinese."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from flows.parameters import find_recipe, list_recipes
from tasks.settings import CHECKOUT

Language = Literal["en", "zh"]
Schema = Mapping[str, Any]

# Longer lists of names and longer texts are printed below the table.
MANY, LONG = 7, 60
_TINY = 1e-3
_LEAST = {"minimum": ("≤", "≥"), "exclusiveMinimum": ("<", ">")}
_MOST = {"maximum": "≤", "exclusiveMaximum": "<"}
_COMMIT = re.compile(r"(@[0-9a-f]{7})[0-9a-f]{33}")
WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "key": "key|values|default|what it does|change it when",
        "setting": "variable|values|default|what it is",
        "recipe": "key", "takes": "{} takes {}.", "is": "{} is, if not set:", "comma": ", ",
        "or": " or ", "list": "list of {}", "map": "map of {} to {}", "string": "text",
        "section": "map",
        "integer": "whole number", "number": "number", "path": "path",
        "secret": "text, **secret**", "names": "names, see below", "below": "see below",
        "but": "all but {}", "unset": "not set", "here": "{} in the checkout",
    },
    "zh": {
        "key": "键|取值|默认值|作用|何时修改",
        "setting": "变量|取值|默认值|含义",
        "recipe": "键", "takes": "{} 的取值：{}。", "is": "{} 未设置时为：", "comma": "、",
        "or": " 或 ", "list": "列表：{}", "map": "映射：{} 到 {}", "string": "文本",
        "section": "映射",
        "integer": "整数", "number": "数", "path": "路径",
        "secret": "文本，**保密**", "names": "名称，见下文", "below": "见下文",
        "but": "除 {} 外全部", "unset": "未设置", "here": "代码目录中的 {}",
    },
}  # fmt: skip


class Entry(NamedTuple):
    """A section, a key or a setting."""

    name: str
    schema: Schema
    what: dict[Language, str]
    when: dict[Language, str]
    of: str

    @property
    def stamp(self) -> str:
        """Names the English."""
        english = f"{self.what['en']}\0{self.when['en']}"
        return hashlib.sha256(english.encode()).hexdigest()[:6]


def show_keys(keys: Sequence[str], entries: Mapping[str, Entry], language: Language) -> str:
    """A table of keys; below it what is too long for a cell."""
    words = WORDS[language]
    rows = [show_row(entries[key], key.rpartition(".")[2], language) for key in keys]
    notes = []
    for key in keys:
        schema = entries[key].schema
        if names := find_many(schema):
            listed = words["comma"].join(f"`{name}`" for name in names)
            notes.append(words["takes"].format(f"`{key}`", listed))
        default = schema["default"]
        if isinstance(default, str) and len(default) > LONG:
            notes.append(f"{words['is'].format(f'`{key}`')}\n\n> {default}")
    return "\n\n".join([table(words["key"], rows), *notes])


def show_row(entry: Entry, name: str, language: Language) -> tuple[str, ...]:
    """Name, values, default, what it does and when to change it."""
    kind, default = show_type(entry.schema, language), show_default(entry.schema, language)
    return f"`{name}`", kind, default, entry.what[language], entry.when[language]


def show_type(schema: Schema, language: Language) -> str:
    """The values a field may have, in a few words."""
    words = WORDS[language]
    if "anyOf" in schema:
        return words["or"].join(show_type(kind, language) for kind in schema["anyOf"])
    if "$ref" in schema:
        return words["section"]
    if "const" in schema:
        return show_value(schema["const"])
    if "enum" in schema:
        if len(schema["enum"]) > MANY:
            return words["names"]
        return words["comma"].join(map(show_value, schema["enum"]))
    kind: str = schema["type"]
    if kind == "array":
        return words["list"].format(show_type(schema["items"], language))
    if kind == "object":
        names = show_type({"type": "string"} | schema.get("propertyNames", {}), language)
        return words["map"].format(names, show_type(schema["additionalProperties"], language))
    if kind == "boolean":
        return f"`true`{words['or']}`false`"
    if kind == "null":
        return "`null`"
    if "pattern" in schema:
        return f"{words['string']} `{schema['pattern']}`"
    kind = {"path": "path", "password": "secret"}.get(schema.get("format", ""), kind)
    return _bound(words[kind], schema)


def _bound(kind: str, schema: Schema) -> str:
    most = "".join(f" {sign} {schema[name]:g}" for name, sign in _MOST.items() if name in schema)
    for name, (before, after) in _LEAST.items():
        if name in schema:
            least = f"{schema[name]:g}"
            return f"{least} {before} {kind}{most}" if most else f"{kind} {after} {least}"
    return f"{kind}{most}"


def show_default(schema: Schema, language: Language) -> str:
    """The default in a cell."""
    words, default = WORDS[language], schema["default"]
    if isinstance(default, str) and default.startswith(f"{CHECKOUT}/"):
        return words["here"].format(f"`{Path(default).relative_to(CHECKOUT)}`")
    if isinstance(default, str) and len(default) > LONG:
        return words["below"]
    names = find_many(schema)
    if names and default and isinstance(default, list):
        others = words["comma"].join(f"`{name}`" for name in names if name not in default)
        return words["but"].format(others)
    return words["unset"] if default == "" else show_value(default)


def show_value(value: Any) -> str:
    """A value as one writes it in a recipe."""
    if isinstance(value, float) and 0 < value < _TINY:
        digits, power = f"{value:e}".split("e")
        return f"`{digits.rstrip('0').rstrip('.')}e{int(power)}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace('"', "")


def show_recipes(keys: Sequence[str], language: Language) -> str:
    """What the recipes that come with the project set; a blank is the default."""
    texts = {name: find_recipe(name).read_text(encoding="utf-8") for name in list_recipes()}
    columns = {name: _flatten(yaml.safe_load(text)) for name, text in texts.items()}
    rows = [
        (f"`{key}`", *(_show_set(recipe.get(key)) for recipe in columns.values()))
        for key in keys
        if any(key in recipe for recipe in columns.values())
    ]
    names = "|".join(f"`{name}`" for name in columns)
    return table(f"{WORDS[language]['recipe']}|{names}", rows)


def _flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= (
            {f"{name}.{key}": field for key, field in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
    return flat


def _show_set(value: Any) -> str:
    if value is None:
        return ""
    # A commit's first digits do.
    return _COMMIT.sub(r"\1…", show_value(value))


def list_choices(schema: Any) -> Iterator[list[Any]]:
    """What a value is chosen from, wherever in a schema it says so."""
    if isinstance(schema, Mapping):
        if "enum" in schema:
            yield schema["enum"]
        schema = schema.values()
    for part in schema:
        if isinstance(part, Mapping | list):
            yield from list_choices(part)


def find_many(schema: Schema) -> list[str]:
    """The names a field chooses from, where they are too many for a cell."""
    return next((names for names in list_choices(schema) if len(names) > MANY), [])


def table(columns: str, rows: Iterable[Sequence[str]]) -> str:
    """`columns` are divided by `|`."""
    names = columns.split("|")
    lines = [names, ["---"] * len(names), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
