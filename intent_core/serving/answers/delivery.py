"""Writes vLLM's completion in the form that the caller asked for, whole or as a stream.

vLLM is never asked for a stream here: an answer has to be complete before it is known whether it is
a call, and how confident the model is.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from intent_core.errors import CallSyntaxError
from intent_core.language.calls import OUT_OF_SCOPE, Call, is_out_of_scope, parse_calls
from intent_core.language.invisible import strip_invisible
from intent_core.serving.answers.confidence import measure_confidence
from intent_core.serving.answers.forms import AnswerForm, FormKind
from intent_core.serving.answers.json_form import write_calls
from intent_core.serving.answers.tool_calls import write_tool_calls
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.exchange import WrittenAnswer
from intent_core.serving.vocabularies import FindVocabulary

CONFIDENCE = b"x-intent-confidence"


@dataclass(frozen=True)
class Delivery:
    """How the answer to one request is written."""

    form: AnswerForm
    threshold: float | None
    """Confidence below which an answer becomes `out_of_scope()`; None if none is measured."""
    is_streamed: bool
    has_usage: bool
    """Whether a stream ends with the numbers of tokens."""
    has_logprobs: bool


def deliver(body: bytes, delivery: Delivery, find_vocabulary: FindVocabulary) -> WrittenAnswer:
    """Return vLLM's completion in the form that the caller asked for.

    Args:
        body: a chat completion of vLLM.
        delivery: how it is written.
        find_vocabulary: returns the vocabulary of the model.

    Raises:
        Refusal: `body` is not a chat completion.
    """
    completion, choices = _parse(body)
    confidences = [_abstain(choice, delivery) for choice in choices]
    for choice in choices:
        _rewrite(choice, delivery.form, find_vocabulary)
    # With several answers, one number would not say to which it belongs.
    known = confidences[0] if len(confidences) == 1 else None
    headers = () if known is None else ((CONFIDENCE, repr(known).encode()),)
    return _write(completion, delivery, headers)


def write_empty(completion: dict[str, Any], delivery: Delivery) -> WrittenAnswer:
    """Return an answer without calls, where there is no utterance to answer.

    Args:
        completion: id, time and model of the answer.
        delivery: how it is written.
    """
    content = write_calls((), None) if delivery.form.kind is FormKind.JSON else ""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
    answer = {**completion, "object": "chat.completion", "choices": [choice], "usage": usage}
    return _write(answer, delivery)


def _parse(body: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the completion and its choices, each with a message that has a content."""
    try:
        completion = json.loads(body)
        choices = completion["choices"]
        texts = [choice["message"]["content"] for choice in choices]
        if not texts or not all(isinstance(text, str | None) for text in texts):
            raise ValueError("an answer without a text")
    except (ValueError, LookupError, TypeError, RecursionError):
        message = "the model server returned an invalid chat answer"
        raise Refusal(Cause.ANSWER, message) from None
    return completion, choices


def _abstain(choice: dict[str, Any], delivery: Delivery) -> float | None:
    """Replace an answer with low confidence; return its confidence if it is measured."""
    logprobs = choice.get("logprobs")
    if not delivery.has_logprobs:
        choice["logprobs"] = None
    if delivery.threshold is None:
        return None
    confidence = measure_confidence(_list_logprobs(logprobs))
    if confidence is not None and confidence < delivery.threshold:
        choice["message"]["content"] = f"{OUT_OF_SCOPE}()"
        choice["finish_reason"] = "stop"
    return confidence


def _list_logprobs(logprobs: Any) -> list[float]:
    tokens = (logprobs.get("content") if isinstance(logprobs, dict) else None) or []
    return [token["logprob"] for token in tokens]


def _rewrite(choice: dict[str, Any], form: AnswerForm, find_vocabulary: FindVocabulary) -> None:
    if form.kind is FormKind.TEXT:
        return
    message = choice["message"]
    text = message.get("content") or ""
    # An answer that was cut off can look like a shorter call.
    is_complete = choice.get("finish_reason") != "length"
    calls = read_accepted_calls(text, form) if is_complete else None
    if form.kind is FormKind.JSON:
        is_readable = calls is not None
        message["content"] = write_calls(calls, find_vocabulary()) if calls is not None else None
        message["refusal"] = None if is_readable else text
    elif calls:
        message["content"] = None
        message["tool_calls"] = write_tool_calls(calls, find_vocabulary())
        choice["finish_reason"] = "tool_calls"


def read_accepted_calls(text: str, form: AnswerForm) -> tuple[Call, ...] | None:
    """Return the calls of an answer, none for `out_of_scope()`.

    Args:
        text: the model's answer.
        form: the intents that the caller accepts; None is returned for an answer with any other,
            and for one that does not parse.
    """
    try:
        calls = parse_calls(strip_invisible(text))
    except CallSyntaxError:
        return None
    if is_out_of_scope(calls):
        return ()
    if form.accepted is not None and any(call.intent not in form.accepted for call in calls):
        return None
    return calls[:1] if form.has_one_call else calls


def _write(
    completion: dict[str, Any], delivery: Delivery, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> WrittenAnswer:
    if not delivery.is_streamed:
        return WrittenAnswer(_encode(completion), headers=headers)
    chunks = list(_list_chunks(completion, delivery.has_usage))
    events = b"".join(b"data: " + _encode(chunk) + b"\n\n" for chunk in chunks)
    return WrittenAnswer(events + b"data: [DONE]\n\n", b"text/event-stream; charset=utf-8", headers)


def _list_chunks(completion: dict[str, Any], has_usage: bool) -> Iterator[dict[str, Any]]:
    kept = ("id", "created", "model", "system_fingerprint")
    common = {name: completion[name] for name in kept if name in completion}
    common["object"] = "chat.completion.chunk"
    usage = {"usage": None} if has_usage else {}
    for choice in completion["choices"]:
        for part in _split(choice):
            yield {**common, "choices": [part], **usage}
    if has_usage:
        yield {**common, "choices": [], "usage": completion.get("usage")}


def _split(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts of a streamed choice: its role, its content, its end."""
    message = choice["message"]
    contents = [{name: message[name]} for name in ("content", "refusal") if message.get(name)]
    for index, call in enumerate(message.get("tool_calls") or ()):
        contents.append({"tool_calls": [{"index": index, **call}]})
    start = {"role": "assistant", "content": "" if message.get("content") is not None else None}
    logprobs = choice.get("logprobs")
    for delta in (start, *contents, {}):
        is_end = not delta
        yield {
            "index": choice.get("index", 0),
            "delta": delta,
            "logprobs": None if delta is start else logprobs,
            "finish_reason": choice.get("finish_reason") if is_end else None,
        }
        # All tokens belong to the first part with a content.
        logprobs = logprobs if delta is start else None


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")
