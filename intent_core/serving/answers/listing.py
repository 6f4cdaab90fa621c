"""The answer to `GET /v1/intents`: a vocabulary, and the forms in which callers send it back."""

from typing import Any

from intent_core.language.vocabulary import Vocabulary
from intent_core.serving.answers.json_form import write_response_format
from intent_core.serving.answers.tool_calls import write_tools


def describe_vocabulary(vocabulary: Vocabulary | None) -> dict[str, Any]:
    """Return the intents of a model, its `tools` and its `response_format`; None if not known.

    Args:
        vocabulary: the intents of the model and their slots, if they are known.
    """
    if vocabulary is None:
        return dict.fromkeys(("intents", "tools", "response_format"))
    return {
        "intents": vocabulary.model_dump(mode="json")["intents"],
        "tools": write_tools(vocabulary),
        "response_format": write_response_format(vocabulary),
    }
