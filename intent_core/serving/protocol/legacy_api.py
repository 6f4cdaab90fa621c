"""Requests and answers of the legacy API, `POST /api/predict/<alias>`."""

import json
from dataclasses import dataclass
from typing import Any

from intent_core.serving.protocol.errors import Cause, Refusal
from intent_core.serving.protocol.routes import CHAT_PATH

# Parameters that are passed on unchanged: legacy name to OpenAI name.
_SAMPLING = {
    "max_new_tokens": "max_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}


@dataclass(frozen=True)
class LegacyRequest:
    """A request of the legacy API, `POST /api/predict/<alias>`."""

    prompt: str
    system_prompt: str
    history: list[list[str]]
    sampling: dict[str, int | float]

    def to_chat(self, default_system_prompt: str) -> dict[str, Any]:
        """Return the request as the fields of a chat request."""
        messages = []
        system_prompt = self.system_prompt or default_system_prompt
        if system_prompt:
            messages.append({"role": "system", "content": system_prompt})
        for question, answer in self.history:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": self.prompt})
        return {"messages": messages, **self.sampling}

    def to_answer(self, chat_answer: bytes) -> bytes:
        """Convert a chat answer to the legacy form.

        Raises:
            Refusal: `chat_answer` is not a chat answer.
        """
        try:
            text = json.loads(chat_answer)["choices"][0]["message"]["content"] or ""
        except (ValueError, LookupError, TypeError, RecursionError):
            message = "the model server returned an invalid chat answer"
            raise Refusal(Cause.ANSWER, message) from None
        history = [*self.history, [self.prompt, text]]
        return json.dumps({"response": text, "history": history}).encode()


def parse_legacy_request(fields: dict[str, Any]) -> LegacyRequest:
    """Check a legacy request; unknown fields are ignored, as in the legacy service."""
    if fields.get("use_stream_chat"):
        message = f"'use_stream_chat' is not supported: use POST {CHAT_PATH} with 'stream': true"
        raise Refusal(Cause.BODY, message)
    prompt = fields.get("prompt")
    if not isinstance(prompt, str):
        raise Refusal(Cause.BODY, "'prompt' must be a string")
    system_prompt = fields.get("system_prompt") or ""
    if not isinstance(system_prompt, str):
        raise Refusal(Cause.BODY, "'system_prompt' must be a string")
    history = fields.get("history") or []
    if not isinstance(history, list) or not all(map(_is_exchange, history)):
        raise Refusal(Cause.BODY, "'history' must be a list of [prompt, answer] string pairs")
    sampling: dict[str, int | float] = {}
    for legacy, name in _SAMPLING.items():
        value = fields.get(legacy)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal(Cause.BODY, f"{legacy!r} must be a number")
        sampling[name] = value
    return LegacyRequest(prompt, system_prompt, history, sampling)


def _is_exchange(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
