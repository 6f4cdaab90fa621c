"""Parses the bodies of requests and writes the bodies for vLLM."""

import json
from dataclasses import dataclass
from typing import Any

from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.legacy_api import LegacyRequest, parse_legacy_request
from intent_core.serving.protocol.request_limits import require_modest
from intent_core.serving.protocol.routes import Route

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
    """A parsed request that can be sent to any model."""

    route: Route
    fields: dict[str, Any]
    legacy: LegacyRequest | None

    @property
    def user(self) -> str:
        """OpenAI's `user` field: the end user of the caller; "" if it is missing."""
        user = self.fields.get("user")
        return user if isinstance(user, str) else ""

    @property
    def expects_calls(self) -> bool:
        return self.route in (Route.CHAT, Route.PREDICT)

    @property
    def is_constrained(self) -> bool:
        return self.fields.get("structured_outputs") is not None

    def to_body(
        self, model: str, system_prompt: str, most_tokens: int, *, is_copy: bool = False
    ) -> bytes:
        """Return the body for vLLM; a mirrored copy has no stream and no caller's request id."""
        if self.legacy:
            fields = self.legacy.to_chat(system_prompt)
        else:
            fields = dict(self.fields)
            if self.route is Route.CHAT:
                put_system_prompt(fields, system_prompt)
        bound_length(fields, most_tokens)
        fields["model"] = model
        if is_copy:
            fields["stream"] = False
            for name in ("stream_options", "request_id"):
                fields.pop(name, None)
        return format_object(fields)


def read_question(route: Route, body: bytes) -> Question:
    """Parse a request body.

    Raises:
        Refusal: the body is invalid or too costly.
    """
    fields = parse_object(body)
    legacy = parse_legacy_request(fields) if route is Route.PREDICT else None
    if legacy is None:
        require_modest(fields)
    return Question(route, fields, legacy)
