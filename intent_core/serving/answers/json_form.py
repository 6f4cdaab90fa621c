"""Calls as JSON, `{"calls": [{"intent": "...", "arguments": {...}}]}`, and its JSON schema.

A caller's schema need not be the published one letter by letter: typed clients write their own, and
the intents of the next model may differ. It must describe this structure; its intents may be fewer.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from intent_core.language.calls import OUT_OF_SCOPE, Call
from intent_core.language.vocabulary import Vocabulary
from intent_core.serving.answers.arguments import name_arguments
from intent_core.serving.answers.forms import AnswerForm, FormKind, accept_intents
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.vocabularies import FindVocabulary

_VALUE = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_EXAMPLE = '{"calls": [{"intent": "...", "arguments": {"name": "value"}}]}'
_MOST_REFERENCES = 8


def write_calls(calls: Iterable[Call], vocabulary: Vocabulary | None) -> str:
    """Return calls as JSON.

    Args:
        calls: the calls, in order; none for an answer that is out of scope.
        vocabulary: the intents of the model and their slots, if they are known.
    """
    written = [
        {"intent": call.intent, "arguments": name_arguments(call, vocabulary)} for call in calls
    ]
    return json.dumps({"calls": written}, ensure_ascii=False)


def write_response_format(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the `response_format` that callers can send.

    Args:
        vocabulary: the intents of the model.
    """
    intents = [name for name in vocabulary.intents if name != OUT_OF_SCOPE]
    arguments = {"type": "object", "additionalProperties": _VALUE}
    call = _write_object(intent={"type": "string", "enum": intents}, arguments=arguments)
    schema = _write_object(calls={"type": "array", "items": call})
    return {"type": "json_schema", "json_schema": {"name": "calls", "schema": schema}}


def read_response_format(value: object, find_vocabulary: FindVocabulary) -> AnswerForm | None:
    """Return the form that `response_format` names; None for text.

    Args:
        value: the field's value.
        find_vocabulary: returns the vocabulary of the model.

    Raises:
        Refusal: the value is not one of OpenAI's, or its schema does not describe calls.
    """
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            names = None
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            names = _read_intents(schema)
        case _:
            raise _refuse("must be 'text', 'json_object' or a 'json_schema' with a schema")
    return accept_intents(FormKind.JSON, names, find_vocabulary(), field="response_format")


def _read_intents(schema: dict[str, Any]) -> list[str] | None:
    """Return the intents that a schema of calls allows; None for any."""
    definitions = schema.get("$defs")
    reader = _SchemaReader(definitions if isinstance(definitions, dict) else {})
    calls = reader.read_object(schema, "calls")["calls"]
    if calls.get("minItems"):
        raise _refuse("may not have 'minItems': an answer that is out of scope has no calls")
    call = reader.read_object(calls.get("items"), "intent", "arguments")
    if call["arguments"].get("required") or call["arguments"].get("additionalProperties") is False:
        raise _refuse("may neither require nor forbid arguments")
    return _read_names(call["intent"])


def _read_names(schema: Mapping[str, Any]) -> list[str] | None:
    names = [schema["const"]] if "const" in schema else schema.get("enum")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _refuse("must list intents as strings")
    return [name for name in names if name != OUT_OF_SCOPE]


class _SchemaReader:
    """Reads the properties of objects, which may be references to definitions."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def read_object(self, schema: object, *names: str) -> dict[str, dict[str, Any]]:
        """Return the schemas of the properties; refuse an object that needs any other."""
        content = self._follow(schema)
        properties, required = content.get("properties"), content.get("required", [])
        is_suitable = (
            isinstance(properties, dict)
            and isinstance(required, list)
            and all(name in names for name in required)
            and all(name in properties for name in names)
        )
        if not isinstance(properties, dict) or not is_suitable:
            raise _refuse(f"must describe an object with {' and '.join(map(repr, names))}")
        return {name: self._follow(properties[name]) for name in names}

    def _follow(self, schema: object) -> dict[str, Any]:
        for _ in range(_MOST_REFERENCES):
            if not isinstance(schema, dict):
                break
            reference = schema.get("$ref")
            if reference is None:
                return schema
            schema = self._definitions.get(str(reference).removeprefix("#/$defs/"))
        raise _refuse("must describe each part by an object, or by a '$ref' into '$defs'")


def _write_object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _refuse(problem: str) -> Refusal:
    hint = f"supported is a schema of {_EXAMPLE}, as GET /v1/intents returns it"
    return Refusal(Cause.BODY, f"'response_format' {problem}: {hint}")
