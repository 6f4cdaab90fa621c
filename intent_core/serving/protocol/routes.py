"""The routes that are served, and those reserved for the operator."""

from enum import Enum

from intent_core.serving.protocol.asgi import Scope

CHAT_PATH = "/v1/chat/completions"
_PREDICT_PREFIX = "/api/predict/"
_MODEL_PREFIX = "/v1/models/"


class Route(Enum):
    """A route that is served."""

    HEALTH = "GET /health"
    MODELS = "GET /v1/models"
    MODEL = f"GET {_MODEL_PREFIX}<alias>"
    INTENTS = "GET /v1/intents"
    CHAT = f"POST {CHAT_PATH}"
    COMPLETIONS = "POST /v1/completions"
    PREDICT = f"POST {_PREDICT_PREFIX}<alias>"
    METRICS = "GET /metrics"
    TOKENIZE = "POST /tokenize"
    STATUS = "GET /intent/status"


FOR_OPERATOR = frozenset({Route.METRICS, Route.TOKENIZE, Route.STATUS})
_NAMED = {"GET": (_MODEL_PREFIX, Route.MODEL), "POST": (_PREDICT_PREFIX, Route.PREDICT)}
"""Routes that end with the name of an alias, by method."""
_EXACT: dict[str, Route] = {
    route.value: route for route in Route if route not in (Route.PREDICT, Route.MODEL)
}


def find_route(scope: Scope) -> Route | None:
    """Return the route of a request, or None if it is not served.

    Paths with escapes and requests with a root path are not served: vLLM's router decodes or
    strips them, so the path could mean something else there than here.
    """
    method, path = scope["method"], scope["path"]
    route = _EXACT.get(f"{method} {path}")
    if route is None:
        prefix, route = _NAMED.get(method, ("", None))
        alias = path.removeprefix(prefix)
        if route is None or alias == path or not alias or "/" in alias:
            return None
    raw = scope.get("raw_path")
    if scope.get("root_path") or not path.isascii() or raw not in (None, path.encode()):
        return None
    return route


def alias_in_path(scope: Scope) -> str:
    """Return the alias at the end of a path.

    Args:
        scope: a request whose route is `PREDICT` or `MODEL`.
    """
    path: str = scope["path"]
    return path.rpartition("/")[2]


def explain_unserved(path: str) -> str:
    """Return the message for a path that is not served.

    Args:
        path: the path of the request.
    """
    if path.startswith("/v1/responses"):
        return f"the Responses API is not served: use chat completions, POST {CHAT_PATH}"
    if f"/v1{path}" in (CHAT_PATH, "/v1/completions", "/v1/models", "/v1/intents"):
        return "this path is not served: the base URL of the client must end with /v1"
    return f"this path is not served: use {CHAT_PATH}, /v1/completions, /v1/models or /v1/intents"
