"""The typed answer, and how it is read from a response."""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from intent_client.errors import InvalidAnswerError


class Call(BaseModel):
    """One recognised intent with its arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intent: str
    arguments: dict[str, str | tuple[str, ...]] = {}
    """Values by slot name, in the utterance's order; several values of one slot are a tuple. Slots
    that the model's vocabulary does not name are arg1, arg2 and so on."""


class Answer(BaseModel):
    """One answer of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: tuple[Call, ...] | None = None
    """The recognised intents, in order; empty for an utterance that is out of scope. None if the
    model's answer is not a valid call, and after `ask_text`."""
    text: str
    """The answer as text, without whitespace around it: the calls as JSON; if `calls` is None, the
    text of the model."""
    is_cut: bool = False
    """Whether `max_completion_tokens` ended the answer."""
    confidence: float | None = None
    """The model's probability of this answer, 0 to 1; None if the server does not send it."""
    id: str = ""
    """ID of the answer, for the operator; "" if the server does not send it."""
    model: str | None = None
    """Content name of the model that answered; None if the server does not send it."""
    version: str | None = None
    """Registry version of that model; None if the server does not send it."""
    latency_ms: float
    """Time the caller waited, including retries and the delays between them."""


def read_answer(
    body: bytes, headers: Mapping[str, str], latency_ms: float, *, as_text: bool
) -> Answer:
    """Return the answer of a chat completion.

    Args:
        body: the body of the response.
        headers: the headers of the response.
        latency_ms: time the caller waited.
        as_text: whether the request was for the model's text, not for calls.

    Raises:
        InvalidAnswerError: the body is not a chat completion, or its content is not calls.
    """
    try:
        choice = _Completion.model_validate_json(body).choices[0]
        content, refusal = choice.message.content, choice.message.refusal
        # An answer that is not a valid call is a refusal.
        is_calls = not as_text and content is not None
        calls = _Calls.model_validate_json(content or "").calls if is_calls else None
    except ValidationError:
        expected = "a chat completion" if as_text else "a chat completion with calls"
        raise InvalidAnswerError(f"not {expected}: {body[:200]!r}") from None
    tokens = (choice.logprobs.content if choice.logprobs else None) or ()
    return Answer(
        calls=calls,
        text=(content or refusal or "").strip(),
        is_cut=choice.finish_reason == "length",
        confidence=_read_confidence(headers, [token.logprob for token in tokens]),
        id=headers.get("x-intent-id", ""),
        model=headers.get("x-intent-model"),
        version=headers.get("x-intent-version"),
        latency_ms=latency_ms,
    )


class _Calls(BaseModel):
    calls: tuple[Call, ...]


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Token(BaseModel):
    logprob: float


class _LogProbabilities(BaseModel):
    content: list[_Token] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


def _read_confidence(headers: Mapping[str, str], logprobs: Sequence[float]) -> float | None:
    """Return the server's confidence, else that of the tokens."""
    try:
        return float(headers["x-intent-confidence"])
    except (KeyError, ValueError):
        return min(1.0, math.exp(math.fsum(logprobs))) if logprobs else None
