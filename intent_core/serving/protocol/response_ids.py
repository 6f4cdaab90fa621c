"""Ids of answers that name the model: `chatcmpl-intent-0123456789ab-v7-<32 hex digits>`.

vLLM takes the header `X-Request-Id` into the id of its answer. What a caller sends there never
reaches it: nobody but the middleware says which model an id names.
"""

import re
import secrets
from typing import NamedTuple

from intent_core.serving.access.aliases import NamedModel
from intent_core.serving.protocol.asgi import find_values
from intent_core.serving.protocol.errors import Headers
from intent_core.serving.protocol.routes import Route

REQUEST_ID = b"x-request-id"

_RESPONSE_ID = re.compile(
    r"(?:(?:chatcmpl|cmpl)-)?(?P<model>(?:intent|base)-[0-9a-f]{12})"
    r"(?:-v(?P<version>[A-Za-z0-9._-]{1,63}))?-[0-9a-f]{32}"
)
# No blanks: a line of the access log must not be forged by it.
_CALLERS_ID = re.compile(rb"[!-~]{1,128}")
_PREFIXES = {
    Route.CHAT: "chatcmpl-",
    Route.PREDICT: "chatcmpl-",
    Route.COMPLETIONS: "cmpl-",
}


class NamedInId(NamedTuple):
    """What an answer's id says."""

    model: str
    version: str
    """"" for a model that was not registered when it answered."""


def make_request_id(model: NamedModel) -> str:
    """What vLLM is to make the answer's id of."""
    version = f"-v{model.version}" if model.version else ""
    return f"{model.model}{version}-{secrets.token_hex(16)}"


def to_response_id(route: Route, request_id: str) -> str:
    """The id that vLLM's answer has then; "" where answers have none."""
    prefix = _PREFIXES.get(route)
    return prefix + request_id if prefix else ""


def parse_response_id(text: str) -> NamedInId | None:
    """The model an id names, with or without vLLM's prefix; None for what is no such id."""
    match = _RESPONSE_ID.fullmatch(text)
    return NamedInId(match["model"], match["version"] or "") if match else None


def read_callers_id(headers: Headers) -> str:
    """The caller's own `X-Request-Id`; "" for none, several, or one that is not printable."""
    values = find_values(headers, REQUEST_ID)
    if len(values) != 1 or not _CALLERS_ID.fullmatch(values[0]):
        return ""
    return values[0].decode("ascii")
