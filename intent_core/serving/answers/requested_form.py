"""Reads the form of the answer from a chat request: `tools`, `tool_choice`, `response_format`.

vLLM gets none of these fields, because it would write them into the prompt, which must be the one
that the model was trained with.
"""

from typing import Any

from intent_core.serving.answers.forms import PLAIN_TEXT, AnswerForm, FormKind, accept_intents
from intent_core.serving.answers.json_form import read_response_format
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.vocabularies import FindVocabulary


def read_form(fields: dict[str, Any], find_vocabulary: FindVocabulary) -> AnswerForm:
    """Return the form of the answer to a chat request.

    Args:
        fields: the body of the request.
        find_vocabulary: returns the vocabulary of the model; called only if it is needed.

    Raises:
        Refusal: a field is invalid, or names an intent that the model does not know.
    """
    tools = _read_tools(fields, find_vocabulary)
    schema = read_response_format(fields.get("response_format"), find_vocabulary)
    if tools and schema:
        message = "'tools' and a 'response_format' of JSON cannot be combined: send one of them"
        raise Refusal(Cause.BODY, message)
    return tools or schema or PLAIN_TEXT


def _read_tools(fields: dict[str, Any], find_vocabulary: FindVocabulary) -> AnswerForm | None:
    """Return None if the answer cannot have tool calls."""
    names = _read_names(fields.get("tools"))
    choice, name = _read_choice(fields.get("tool_choice"), names)
    if not names or choice == "none":
        return None
    return accept_intents(
        FormKind.TOOLS,
        [name] if name else names,
        find_vocabulary(),
        field="tools",
        allows_out_of_scope=choice == "auto",
        has_one_call=fields.get("parallel_tool_calls") is False,
    )


def _read_names(tools: object) -> list[str]:
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise Refusal(Cause.BODY, "'tools' must be a list of functions")
    return [_read_name(tool, f"tools[{number}]") for number, tool in enumerate(tools)]


def _read_name(tool: object, field: str) -> str:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} if name:
            return name
    raise Refusal(Cause.BODY, f"'{field}' must be a function with a name")


def _read_choice(choice: object, names: list[str]) -> tuple[str, str]:
    """Return (none, auto or required; the name of the function that is required, or "")."""
    match choice:
        case None:
            return "auto", ""
        case "none" | "auto":
            return choice, ""
        case "required" if names:
            return "required", ""
        case {"type": "function", "function": {"name": str(name)}} if name in names:
            return "required", name
    message = "'tool_choice' must be 'none', 'auto', 'required' or a function of 'tools'"
    raise Refusal(Cause.BODY, message)
