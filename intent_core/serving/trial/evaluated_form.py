"""Finds the requests of a trial that have the form of the evaluation's; only these are judged.

A caller can make any model look bad: with sampling, a logit bias, its own system prompt, a history,
a very long text, or a limit that cuts off the answer. Such requests are answered as usual, but they
must not decide about the candidate.
"""

from collections.abc import Mapping
from typing import Any

from intent_core.serving.access.aliases import NamedModel
from intent_core.serving.protocol.request_body import Question

_LONGEST_UTTERANCE = 2000
"""Characters; a longer text also takes longer to answer."""
_LENGTHS = ("max_tokens", "max_completion_tokens")
_FREE = frozenset({"model", "messages", "stream", "stream_options", "seed", *_LENGTHS})
"""Fields that do not change an answer that is complete."""
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "temperature": (0,),
    "n": (1,),
    "stop": ([], ""),
    "stop_token_ids": ([],),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "top_p": (1,),
    "top_k": (-1, 0),
    "min_p": (0,),
}
"""Fields that must have one of these values; a missing field has one of them."""
_NARROWING = ("top_p", "top_k", "min_p")
"""Without effect if the temperature is 0."""


def is_as_evaluated(question: Question, *models: NamedModel) -> bool:
    """Return whether a request has the form of the evaluation's, for each of these models.

    Args:
        question: a request of a caller.
        models: the models whose answers to it would be judged.
    """
    if not question.expects_calls or question.intents is not None:
        return False
    if not question.allows_out_of_scope:
        return False
    fields = question.legacy.to_chat("") if question.legacy else question.fields
    texts = _read_messages(fields.get("messages"))
    if texts is None or not _is_neutral(fields):
        return False
    system_prompt, utterance = texts
    prompts = {model.system_prompt for model in models}
    is_own = system_prompt is not None and prompts != {system_prompt}
    return not is_own and 0 < len(utterance) <= _LONGEST_UTTERANCE


def limits_length(question: Question) -> bool:
    """Return whether the caller limits the length of the answer.

    Args:
        question: a request of a caller.
    """
    fields = question.legacy.sampling if question.legacy else question.fields
    return any(fields.get(name) is not None for name in _LENGTHS)


def _is_neutral(fields: Mapping[str, Any]) -> bool:
    free = {*_FREE, *_NARROWING} if fields.get("temperature") == 0 else _FREE
    return all(
        name in free or value is None or value in _NEUTRAL.get(name, ())
        for name, value in fields.items()
    )


def _read_messages(messages: object) -> tuple[str | None, str] | None:
    """Return (system prompt or None, utterance); None for any other form of chat."""
    if not isinstance(messages, list):
        return None
    parts = [_read_message(message) for message in messages]
    match parts:
        case [("user", str(utterance))]:
            return None, utterance
        case [("system", str(system_prompt)), ("user", str(utterance))]:
            return system_prompt, utterance
    return None


def _read_message(message: object) -> tuple[object, object]:
    if not isinstance(message, dict) or message.keys() != {"role", "content"}:
        return None, None
    content = message["content"]
    match content:
        case [{"type": "text", "text": str(text), **others}] if not others:
            content = text
    return message["role"], content
