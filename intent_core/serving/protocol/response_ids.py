"""Answer ids that contain the model: `chatcmpl-intent-0123456789ab-v7-<32 hex digits>`.

vLLM uses the header `X-Request-Id` in the id of its answer. The middleware always replaces the
caller's header, so callers cannot forge the model in an id.
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
# No whitespace, so that callers cannot forge lines of the access log.
_CALLERS_ID = re.compile(rb"[!-~]{1,128}")
_PREFIXES = {
    Route.CHAT: "chatcmpl-",
    Route.PREDICT: "chatcmpl-",
    Route.COMPLETIONS: "cmpl-",
}


class NamedInId(NamedTuple):
    """The model and version in an answer's id."""

    model: str
    version: str
    """"" if the model was not registered when it answered."""


def make_request_id(model: NamedModel) -> str:
    """Return a new request id, from which vLLM makes the id of its answer."""
    version = f"-v{model.version}" if model.version else ""
    return f"{model.model}{version}-{secrets.token_hex(16)}"


def to_response_id(route: Route, request_id: str) -> str:
    """Return the id of vLLM's answer for a request id; "" for routes without ids."""
    prefix = _PREFIXES.get(route)
    return prefix + request_id if prefix else ""


def parse_response_id(text: str) -> NamedInId | None:
    """Return the model and version in an answer's id; None if it is not such an id.

    Args:
        text: the id, with or without vLLM's prefix `chatcmpl-` or `cmpl-`.
    """
    match = _RESPONSE_ID.fullmatch(text)
    return NamedInId(match["model"], match["version"] or "") if match else None


def read_callers_id(headers: Headers) -> str:
    """Return the caller's `X-Request-Id`; "" if it is missing, repeated or not printable ASCII."""
    values = find_values(headers, REQUEST_ID)
    if len(values) != 1 or not _CALLERS_ID.fullmatch(values[0]):
        return ""
    return values[0].decode("ascii")
