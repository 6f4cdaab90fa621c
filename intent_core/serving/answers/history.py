"""Earlier turns of a chat that agent frameworks send back: tool calls, and what the tools returned.

Tool calls become the text that the model was trained with. What a tool returned is not an
utterance, and neither is what the application said about it: both are left out.
"""

import json
from collections.abc import Mapping
from typing import Any

from intent_core.language.calls import Call, format_calls
from intent_core.serving.answers.arguments import read_call
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.vocabularies import FindVocabulary


def restore_texts(messages: object, find_vocabulary: FindVocabulary) -> object:
    """Return the messages with tool calls as text and without the results of tools.

    Args:
        messages: the messages of a chat request; an invalid value is returned unchanged.
        find_vocabulary: returns the vocabulary of the model; called only if it is needed.

    Raises:
        Refusal: a tool call is invalid.
    """
    if not isinstance(messages, list):
        return messages
    restored: list[object] = []
    follows_result = False
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role == "tool":
            follows_result = True
        elif role == "assistant" and message.get("tool_calls"):
            field = f"messages[{number}].tool_calls"
            restored.append(_restore_calls(message["tool_calls"], field, find_vocabulary))
            follows_result = False
        elif role != "assistant" or not follows_result:
            restored.append(message)
            follows_result = False
    return restored


def ends_with_result(messages: object) -> bool:
    """Return whether a chat ends with what a tool returned, so that there is no new utterance.

    Args:
        messages: the messages of a chat request.
    """
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") == "tool"


def _restore_calls(
    tool_calls: object, field: str, find_vocabulary: FindVocabulary
) -> dict[str, str]:
    if not isinstance(tool_calls, list):
        raise Refusal(Cause.BODY, f"'{field}' must be a list")
    calls = [
        _restore_call(tool_call, f"{field}[{number}]", find_vocabulary)
        for number, tool_call in enumerate(tool_calls)
    ]
    return {"role": "assistant", "content": format_calls(calls)}


def _restore_call(tool_call: object, field: str, find_vocabulary: FindVocabulary) -> Call:
    match tool_call:
        case {"function": {"name": str(name), "arguments": str(arguments)}}:
            try:
                return read_call(name, _parse(arguments), find_vocabulary())
            except (ValueError, RecursionError):
                pass
    message = f"'{field}' must have a function with a name, and arguments that are a JSON object"
    raise Refusal(Cause.BODY, message)


def _parse(arguments: str) -> Mapping[str, Any]:
    content = json.loads(arguments or "{}")
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content
