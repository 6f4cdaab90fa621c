"""Parses the bodies of requests and writes the bodies for vLLM."""

import json
import math
from dataclasses import dataclass
from typing import Any

from intent_core.serving.access.aliases import NamedModel
from intent_core.serving.access.in_progress import Cost
from intent_core.serving.answers.forms import PLAIN_TEXT, AnswerForm, FormKind
from intent_core.serving.answers.history import ends_with_result, restore_texts
from intent_core.serving.answers.requested_form import read_form
from intent_core.serving.protocol.body_fields import (
    CONSTRAINT,
    count_prompts,
    select_fields,
)
from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.legacy_api import LegacyRequest, parse_legacy_request
from intent_core.serving.protocol.routes import Route
from intent_core.serving.vocabularies import FindVocabulary

_BYTES_PER_TOKEN = 3
"""Of a usual Chinese or English text, rounded down."""
_COMPLETION_TOKENS = 16
"""vLLM's default for /v1/completions."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        Refusal: the body is not a JSON object in UTF-8.
    """
    try:
        fields = json.loads(body.decode(), parse_int=_read_integer)
    except (ValueError, RecursionError):
        raise Refusal(Cause.BODY, "the request body is not valid JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise Refusal(Cause.BODY, "the request body must be a JSON object")
    return fields


def _read_integer(text: str) -> int:
    """Refuse integers of more than 64 bits, on which vLLM fails with status 500."""
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise Refusal(Cause.BODY, "the request body contains an integer of more than 64 bits")
    return number


def format_object(fields: dict[str, Any]) -> bytes:
    """Write an unambiguous body: no repeated names, no NaN, no unpaired surrogates.

    Raises:
        Refusal: `fields` contain NaN, infinity or an unpaired surrogate, or are nested too deeply.
    """
    try:
        return _ENCODER.encode(fields).encode()
    except (ValueError, RecursionError):
        message = "the request body contains NaN, infinity or an unpaired UTF-16 surrogate"
        raise Refusal(Cause.BODY, message) from None


def requested_model(fields: dict[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str):
        raise Refusal(Cause.BODY, "'model' must be the name of a model")
    return model


def put_system_prompt(fields: dict[str, Any], system_prompt: str) -> None:
    """Add `system_prompt` to a chat without one; the other messages are not changed."""
    messages = fields.get("messages")
    # Invalid chats are passed on unchanged; vLLM refuses them.
    if not system_prompt or not isinstance(messages, list) or not messages:
        return
    roles = [message.get("role") for message in messages if isinstance(message, dict)]
    if "system" not in roles and "developer" not in roles:
        fields["messages"] = [{"role": "system", "content": system_prompt}, *messages]


def bound_length(fields: dict[str, Any], most_tokens: int) -> None:
    """Reduce the requested number of tokens to `most_tokens`; 0 does not change it.

    Clients send large defaults (the PAI guide's client sends 2,048), and vLLM refuses values above
    the model's length.
    """
    for name in ("max_tokens", "max_completion_tokens"):
        wanted = fields.get(name)
        if most_tokens and isinstance(wanted, int | float) and wanted > most_tokens:
            fields[name] = most_tokens


@dataclass(frozen=True)
class Question:
    """A checked request that can be sent to any model."""

    route: Route
    fields: dict[str, Any]
    """The fields that are passed on."""
    legacy: LegacyRequest | None = None
    user: str = ""
    """OpenAI's `user` field: the end user of the caller; "" if it is missing."""
    form: AnswerForm = PLAIN_TEXT
    has_utterance: bool = True
    """False for a chat that ends with what a tool returned."""

    @property
    def intents(self) -> frozenset[str] | None:
        """The intents that the caller limits the model to; None for all."""
        return self.form.narrowed

    @property
    def allows_out_of_scope(self) -> bool:
        return self.form.allows_out_of_scope

    def find_threshold(self, model: NamedModel) -> float | None:
        """Return the confidence below which the model's answer becomes `out_of_scope()`."""
        return model.abstain_below if self.expects_calls and self.allows_out_of_scope else None

    def is_held(self, model: NamedModel) -> bool:
        """Return whether the model's answer is converted once it is complete."""
        is_text = self.legacy is None and self.form.kind is FormKind.TEXT
        return not is_text or self.find_threshold(model) is not None

    @property
    def expects_calls(self) -> bool:
        return self.route in (Route.CHAT, Route.PREDICT)

    def to_messages(self) -> object:
        """Return the messages of the chat, not checked; None for a request that is not a chat."""
        fields = self.legacy.to_chat("") if self.legacy else self.fields
        return fields.get("messages")

    def estimate_cost(self, body_bytes: int, longest: int) -> Cost:
        """Return what the request can cost; `longest` is the model's length, 0 if not known."""
        prompts = count_prompts(self.fields)
        answers = max(1, self.fields.get("n", 1)) * prompts
        prompt_tokens = body_bytes // _BYTES_PER_TOKEN
        length = self._read_length()
        if longest:
            prompt_tokens = min(prompt_tokens, prompts * longest)
            length = min(length or longest - prompt_tokens // prompts, longest)
        return Cost(answers, prompt_tokens + answers * length)

    def _read_length(self) -> int:
        """Return the requested number of tokens of each answer; 0 for the longest."""
        if self.legacy:
            length = self.legacy.sampling.get("max_tokens", 0)
            return max(0, int(length)) if math.isfinite(length) else 0
        if self.route is Route.COMPLETIONS:
            return int(self.fields.get("max_tokens", _COMPLETION_TOKENS))
        lengths = (self.fields.get(name) for name in ("max_completion_tokens", "max_tokens"))
        return next((length for length in lengths if length is not None), 0)

    def to_body(
        self,
        model: NamedModel,
        most_tokens: int,
        *,
        cache_salt: str,
        add_system_prompt: bool = True,
        is_copy: bool = False,
        grammar: str | None = None,
    ) -> bytes:
        """Return the body for vLLM; a mirrored copy has no stream."""
        system_prompt = model.system_prompt if add_system_prompt else ""
        if self.legacy:
            fields = self.legacy.to_chat(system_prompt)
        else:
            fields = dict(self.fields)
            if self.route is Route.CHAT:
                put_system_prompt(fields, system_prompt)
        bound_length(fields, most_tokens)
        fields["model"] = model.model
        if grammar is not None:
            # A comment, so that vLLM's cache of compiled grammars is not shared by keys either.
            fields[CONSTRAINT] = {"grammar": f"# {cache_salt}\n{grammar}"}
        if self.route is not Route.TOKENIZE:
            fields["cache_salt"] = cache_salt
        if self.find_threshold(model) is not None:
            fields["logprobs"] = True
        if is_copy or self.is_held(model):
            fields["stream"] = False
            fields.pop("stream_options", None)
        return format_object(fields)


def read_question(
    route: Route, fields: dict[str, Any], find_vocabulary: FindVocabulary
) -> Question:
    """Check a request.

    Args:
        route: the route of the request.
        fields: its body.
        find_vocabulary: returns the vocabulary of its model; called only if it is needed.

    Raises:
        Refusal: the request is invalid, too costly or not supported.
    """
    if route is Route.PREDICT:
        return Question(route, {}, parse_legacy_request(fields), _read_user(fields))
    kept, is_chat = select_fields(route, fields), route is Route.CHAT
    has_utterance = not (is_chat and ends_with_result(kept.get("messages")))
    if is_chat and "messages" in kept:
        kept["messages"] = restore_texts(kept["messages"], find_vocabulary)
    return Question(
        route,
        kept,
        user=_read_user(fields),
        form=read_form(fields, find_vocabulary) if is_chat else PLAIN_TEXT,
        has_utterance=has_utterance,
    )


def _read_user(fields: dict[str, Any]) -> str:
    user = fields.get("user")
    return user if isinstance(user, str) else ""
