"""`make docs`: the generated tables of the reference pages; `--check` fails if one is stale.

Names, values, defaults and descriptions come from the models, commands from the command line,
metrics and exit codes from their tables, recipes from `deployments/recipes`. `fields.yaml` has the
advice and the Chinese. Each translation names the English it was made from (`of`), so that neither
changes alone. The rest of the pages is written by hand.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import command_tables
import yaml
from field_tables import (
    WORDS,
    Entry,
    Language,
    Schema,
    list_choices,
    show_keys,
    show_recipes,
    show_row,
    table,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings

from intent_core.evaluation.metrics import list_requirable
from intent_core.recipe.config import PipelineConfig
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings

HERE = Path(__file__).parent
PAGES: dict[Language, Path] = {
    "en": HERE / "en" / "reference.md",
    "zh": HERE / "zh" / "reference.md",
}
_BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])\d+(?:\.\d+)?(?:e-?\d+)?", re.ASCII)
_NAME = re.compile(
    r"INTENT_[A-Z0-9_]+|(?<![\w.-])(?:data|train|evaluate|gate|serve)\.[a-z]\w*", re.ASCII
)
_SNAKE = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+")
# Of vLLM, and files of the secrets folder.
_OTHER_NAMES = {"structured_outputs", "api_key", "inference_keys"}


class DriftError(Exception):
    """Models, texts and pages do not agree. The message has one fault per line."""


class Translation(BaseModel):
    """Chinese for a text of the models and, for a key of a recipe, for its advice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    what: str
    when: str = ""


class Advice(BaseModel):
    """When to change a key of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: Annotated[str, Field(min_length=1)]
    zh: Translation


class Texts(BaseModel):
    """`fields.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sections: dict[str, Translation]
    recipe: dict[str, Advice]
    settings: dict[str, Translation]
    pai: dict[str, Translation]
    commands: dict[str, Translation]
    exit_codes: dict[str, Translation]
    metrics: dict[str, Translation]


class Models(NamedTuple):
    """JSON schemas: sections by name, keys by dotted name, settings by variable.

    Commands, exit codes and metrics have no schema: their English texts by table and name.
    """

    sections: dict[str, Schema]
    keys: dict[str, Schema]
    settings: dict[str, Schema]
    pai: dict[str, Schema]
    program: dict[str, dict[str, str]]


def read_models() -> Models:
    top = PipelineConfig.model_json_schema()
    sections: dict[str, Schema] = {}
    keys: dict[str, Schema] = {}
    for name, schema in top["properties"].items():
        if "$ref" in schema:
            sections[name] = top["$defs"][schema["$ref"].rpartition("/")[2]]
            keys |= {f"{name}.{key}": field for key, field in sections[name]["properties"].items()}
        else:
            keys[name] = schema
    # The names are those of a table that a recipe's model cannot import.
    minimums = keys["gate.minimums"]
    keys["gate.minimums"] = {**minimums, "propertyNames": {"enum": list_requirable()}}
    settings, pai = _read_settings(Settings), _read_settings(PaiSettings)
    return Models(sections, keys, settings, pai, command_tables.read_english())


def _read_settings(model: type[BaseSettings]) -> dict[str, Schema]:
    prefix = model.model_config["env_prefix"]
    return {
        f"{prefix}{name.upper()}": _without_null(schema)
        for name, schema in model.model_json_schema()["properties"].items()
    }


def _without_null(schema: Schema) -> Schema:
    """In the environment nothing is the empty text."""
    if "anyOf" not in schema:
        return schema
    kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
    return {**schema, "anyOf": kinds, "default": schema["default"] or ""}


def read_texts() -> Texts:
    path = HERE / "fields.yaml"
    try:
        return Texts.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise DriftError(f"{path.name}: {error}") from error


def make_pages(models: Models, texts: Texts) -> dict[Path, str]:
    """The pages as they should be. Raises `DriftError` that lists every fault."""
    _require([*_find_missing(models, texts)])
    entries = merge(models, texts)
    known = _list_names(models)
    _require([fault for entry in entries.values() for fault in find_faults(entry, known)])
    pages = {
        path: fill(path.read_text(encoding="utf-8"), make_blocks(models, entries, language))
        for language, path in PAGES.items()
    }
    _require(
        [
            fault
            for path, text in pages.items()
            for fault in strangers(path.name, _BLOCK.sub("", text), known)
        ]
    )
    return pages


def _read_description(schema: Schema) -> str:
    return " ".join(schema.get("description", "").split())


def _require(faults: Sequence[str]) -> None:
    if faults:
        raise DriftError("\n".join(faults))


def _find_missing(models: Models, texts: Texts) -> Iterator[str]:
    parts = (
        (models.sections, texts.sections),
        (models.keys, texts.recipe),
        (models.settings, texts.settings),
        (models.pai, texts.pai),
        (models.program["commands"], texts.commands),
        (models.program["exit_codes"], texts.exit_codes),
        (models.program["metrics"], texts.metrics),
    )
    for there, written in parts:
        for name in sorted(there.keys() - written.keys()):
            yield f"{name}: has no text in fields.yaml"
        for name in sorted(written.keys() - there.keys()):
            yield f"{name}: in fields.yaml, but not in the program"


def merge(models: Models, texts: Texts) -> dict[str, Entry]:
    """Every field with its texts."""
    entries = {}
    plain = {**texts.sections, **texts.settings, **texts.pai}
    schemas = {**models.sections, **models.keys, **models.settings, **models.pai}
    for name, schema in schemas.items():
        zh = plain[name] if name in plain else texts.recipe[name].zh
        advice = "" if name in plain else texts.recipe[name].when
        what: dict[Language, str] = {"en": _read_description(schema), "zh": zh.what}
        entries[name] = Entry(name, schema, what, {"en": advice, "zh": zh.when}, zh.of)
    for part, english in models.program.items():
        for name, text in english.items():
            zh = getattr(texts, part)[name]
            key = f"{part}: {name}"
            entries[key] = Entry(key, {}, {"en": text, "zh": zh.what}, {"en": "", "zh": ""}, zh.of)
    return entries


def find_faults(entry: Entry, known: set[str]) -> Iterator[str]:
    """Missing texts, code or numbers in one language only, unknown names, stale Chinese."""
    for text in (entry.what, entry.when):
        if not all(text.values()) and (text is entry.what or any(text.values())):
            yield f"{entry.name}: a text is missing, in its model or in fields.yaml"
        unlike = _marks(text["en"]) ^ _marks(text["zh"])
        if unlike:
            yield f"{entry.name}: in one language only: {', '.join(sorted(unlike))}"
        for said in text.values():
            yield from strangers(entry.name, said, known)
    if entry.of != entry.stamp:
        yield f'{entry.name}: its English changed. Update its Chinese, then set of: "{entry.stamp}"'


def _marks(text: str) -> set[str]:
    """What a translation leaves as it is: code and numbers."""
    return {*_CODE.findall(text), *_NUMBER.findall(_CODE.sub("", text))}


def strangers(where: str, text: str, known: set[str]) -> Iterator[str]:
    """Names in a text that look like a field's, and there is no such field."""
    bare = {code.strip("`") for code in _CODE.findall(text)}
    named = {*_NAME.findall(text), *filter(_SNAKE.fullmatch, bare)}
    for name in sorted(named - known):
        # `INTENT_KEEP_*` means several settings.
        if not (name.endswith("_") and any(other.startswith(name) for other in known)):
            yield f"{where}: unknown name {name}"


def _list_names(models: Models) -> set[str]:
    parts = {part for key in models.keys for part in key.split(".")}
    choices = {str(name) for names in list_choices([*models.keys.values()]) for name in names}
    metrics = models.program["metrics"]
    return {*models.keys, *models.settings, *models.pai, *parts, *choices, *metrics, *_OTHER_NAMES}


def fill(page: str, blocks: Mapping[str, str]) -> str:
    """Return the page with its generated blocks replaced. It must contain exactly these blocks."""
    there = [name for _, name, _ in _BLOCK.findall(page)]
    _require([f"the page has no <!-- made: {name} -->" for name in blocks if name not in there])
    _require([f"<!-- made: {name} -->: unknown block" for name in there if name not in blocks])
    return _BLOCK.sub(lambda match: f"{match[1]}{blocks[match[2]]}\n{match[3]}", page)


def make_blocks(models: Models, entries: Mapping[str, Entry], language: Language) -> dict[str, str]:
    """The generated parts of a page by name."""
    blocks = {
        "recipes": show_recipes([*models.keys], language),
        "top": show_keys([key for key in models.keys if "." not in key], entries, language),
    }
    for name, schemas in (("settings", models.settings), ("pai", models.pai)):
        rows = [show_row(entries[setting], setting, language)[:-1] for setting in schemas]
        blocks[name] = table(WORDS[language]["setting"], rows)
    for name in models.sections:
        keys = [key for key in models.keys if key.startswith(f"{name}.")]
        title = entries[name].what[language]
        blocks[name] = f"{title}\n\n{show_keys(keys, entries, language)}"
    shows = {
        "commands": command_tables.show_commands,
        "exit_codes": command_tables.show_exit_codes,
        "metrics": command_tables.show_metrics,
    }
    for part, show in shows.items():
        names = models.program[part]
        blocks[part] = show(
            {name: entries[f"{part}: {name}"].what[language] for name in names}, language
        )
    return blocks


def main() -> None:
    """Write the pages, or exit with a message that lists what does not agree."""
    try:
        pages = make_pages(read_models(), read_texts())
    except DriftError as drift:
        sys.exit(str(drift))
    stale = {path: text for path, text in pages.items() if path.read_text("utf-8") != text}
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(f"{path.name}: stale, run `make docs`" for path in stale) or None)
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
