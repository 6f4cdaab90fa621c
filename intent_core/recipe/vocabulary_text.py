"""Write a label vocabulary as YAML for people: Chinese stays readable, remarks are comments.

PyYAML writes no comments. A scalar is written without quotes only if every YAML reader takes it as
text; `on`, `1.0` and `null` are quoted.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import yaml

from intent_core.language.vocabulary import IntentEntry, SlotEntry, Vocabulary
from intent_core.recipe.vocabulary_file import KeyPath

_PLAIN = re.compile(r"[^\W\d_][\w./-]*(?: [\w./-]+)*")
_LONGEST_KEY = 200
"""Characters of a key that YAML reads without `?`: 1024 bytes, escapes included."""
_RESOLVER: Any = yaml.resolver.Resolver()


def render_vocabulary(vocabulary: Vocabulary, remarks: Mapping[KeyPath, str], title: str) -> str:
    """Return a vocabulary as YAML, with the remarks as comments.

    Args:
        vocabulary: the intents and their slots.
        remarks: by place in the file; those of a place that is not written are left out.
        title: the first comment; may have several lines.
    """
    lines = [f"# {_escape(line)}".rstrip() for line in title.splitlines()]
    lines.append("intents:")
    for intent, entry in vocabulary.intents.items():
        place = ("intents", intent)
        lines += (f"  {line}" for line in _write_entry(intent, _comment(remarks, place)))
        lines += (f"    {line}" for line in _write_intent(entry, remarks, place))
    return "\n".join(lines) + "\n"


def _write_intent(
    entry: IntentEntry, remarks: Mapping[KeyPath, str], place: KeyPath
) -> Iterator[str]:
    yield f"description: {_write(entry.description)}" + _comment(remarks, (*place, "description"))
    if entry.order != "appearance":
        yield f"order: {entry.order}" + _comment(remarks, (*place, "order"))
    if entry.examples:
        yield "examples:" + _comment(remarks, (*place, "examples"))
        yield from (f"  - {_write(example)}" for example in entry.examples)
    if entry.slots:
        yield "slots:" + _comment(remarks, (*place, "slots"))
    for index, slot in enumerate(entry.slots):
        lines = _write_slot(slot, remarks, (*place, "slots", str(index)))
        signs = chain(["  - "], iter(lambda: "    ", None))
        yield from (sign + line for sign, line in zip(signs, lines, strict=False))


def _write_slot(slot: SlotEntry, remarks: Mapping[KeyPath, str], place: KeyPath) -> Iterator[str]:
    yield f"name: {_write(slot.name)}" + _comment(remarks, (*place, "name"))
    yield f"description: {_write(slot.description)}" + _comment(remarks, (*place, "description"))
    yield f"type: {slot.type}" + _comment(remarks, (*place, "type"))
    if slot.values:
        yield "values:" + _comment(remarks, (*place, "values"))
    for value, synonyms in slot.values.items():
        rest = f" {_write_list(synonyms)}" + _comment(remarks, (*place, "values", value))
        yield from (f"  {line}" for line in _write_entry(value, rest))
    if slot.examples:
        examples = _write_list(slot.examples)
        yield f"examples: {examples}" + _comment(remarks, (*place, "examples"))


def _write_list(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_write, texts))}]"


def _write_entry(key: str, rest: str) -> list[str]:
    if len(key) <= _LONGEST_KEY:
        return [f"{_write(key)}:{rest}"]
    return [f"? {_write(key)}", f":{rest}"]


def _write(text: str) -> str:
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    is_text = tag == "tag:yaml.org,2002:str" and text.casefold() not in ("y", "n")
    if is_text and _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return f'"{_escape(json.dumps(text, ensure_ascii=False)[1:-1])}"' if text else '""'


def _comment(remarks: Mapping[KeyPath, str], place: KeyPath) -> str:
    return f"  # {_escape(remarks[place])}" if place in remarks else ""


def _escape(text: str) -> str:
    return "".join(c if c.isprintable() else _escape_character(c) for c in text)


def _escape_character(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
