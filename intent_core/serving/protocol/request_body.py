"""What callers send, and what is sent to vLLM."""

import json
from dataclasses import dataclass
from typing import Any

from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.legacy_api import LegacyRequest, parse_legacy_request
from intent_core.serving.protocol.request_limits import require_modest
from intent_core.serving.protocol.routes import Route

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; `Refusal` for anything else."""
    try:
        fields = json.loads(body.decode(), parse_int=_read_integer)
    except (ValueError, RecursionError):
        raise Refusal(Cause.BODY, "the body is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise Refusal(Cause.BODY, "the body is not a JSON object")
    return fields


def _read_integer(text: str) -> int:
    """Beyond 64 bits vLLM fails with a 500 where it hands a number on."""
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise Refusal(Cause.BODY, "the body holds an integer of more than 64 bits")
    return number


def format_object(fields: dict[str, Any]) -> bytes:
    """One body for one meaning: no repeated names, no NaN, no halves of surrogate pairs."""
    try:
        return _ENCODER.encode(fields).encode()
    except (ValueError, RecursionError):
        message = "the body holds a number or a character that JSON in UTF-8 has no place for"
        raise Refusal(Cause.BODY, message) from None


def requested_model(fields: dict[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str):
        raise Refusal(Cause.BODY, "'model' must name the model, as a text")
    return model


def put_system_prompt(fields: dict[str, Any], system_prompt: str) -> None:
    """Begin the chat with `system_prompt`, unless the caller brings one; content is not touched."""
    messages = fields.get("messages")
    # Whatever is no chat is vLLM's to refuse.
    if not system_prompt or not isinstance(messages, list) or not messages:
        return
    roles = [message.get("role") for message in messages if isinstance(message, dict)]
    if "system" not in roles and "developer" not in roles:
        fields["messages"] = [{"role": "system", "content": system_prompt}, *messages]


def bound_length(fields: dict[str, Any], most_tokens: int) -> None:
    """Ask for at most `most_tokens`: callers name large numbers unseen, the documents' own client
    2,048, and vLLM refuses more than its model's length. 0 leaves that to vLLM."""
    for name in ("max_tokens", "max_completion_tokens"):
        wanted = fields.get(name)
        if most_tokens and isinstance(wanted, int | float) and wanted > most_tokens:
            fields[name] = most_tokens


@dataclass(frozen=True)
class Question:
    """What a caller asks, ready to be put to any model."""

    route: Route
    fields: dict[str, Any]
    legacy: LegacyRequest | None

    @property
    def user(self) -> str:
        """OpenAI's name for whom the caller asks; "" for nobody."""
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
        """What vLLM is sent; a copy is neither streamed nor has the caller's own request id."""
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
    """The question in a body; `Refusal` for what is none."""
    fields = parse_object(body)
    legacy = parse_legacy_request(fields) if route is Route.PREDICT else None
    if legacy is None:
        require_modest(fields)
    return Question(route, fields, legacy)
