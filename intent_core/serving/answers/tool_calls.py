"""Calls as OpenAI's `tool_calls`, and the intents of a model as OpenAI's `tools`."""

import json
import secrets
from collections.abc import Iterable
from typing import Any

from intent_core.language.calls import OUT_OF_SCOPE, Call
from intent_core.language.vocabulary import IntentEntry, SlotEntry, Vocabulary
from intent_core.serving.answers.arguments import name_arguments


def write_tool_calls(calls: Iterable[Call], vocabulary: Vocabulary | None) -> list[dict[str, Any]]:
    """Return calls as `tool_calls`.

    Args:
        calls: the calls, in order.
        vocabulary: the intents of the model and their slots, if they are known.
    """
    return [
        {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {
                "name": call.intent,
                "arguments": json.dumps(name_arguments(call, vocabulary), ensure_ascii=False),
            },
        }
        for call in calls
    ]


def write_tools(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Return the `tools` that callers can send.

    Args:
        vocabulary: the intents of the model.
    """
    return [
        _write_tool(name, entry)
        for name, entry in vocabulary.intents.items()
        if name != OUT_OF_SCOPE
    ]


def _write_tool(name: str, entry: IntentEntry) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {slot.name: _write_slot(slot) for slot in entry.slots},
        # The names of values whose slot is not known: arg1, arg2 and so on.
        "additionalProperties": {"type": "string"},
    }
    function = {"name": name, "description": entry.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _write_slot(slot: SlotEntry) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if slot.description:
        schema["description"] = slot.description
    if slot.type == "one_of":
        schema["enum"] = list(slot.spellings)
    return schema
