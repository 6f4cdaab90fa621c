"""The routes that are served, and those reserved for the operator."""

from enum import Enum

from intent_core.serving.protocol.asgi import Scope

CHAT_PATH = "/v1/chat/completions"
_PREDICT_PREFIX = "/api/predict/"


class Route(Enum):
    """A route that is served."""

    HEALTH = "GET /health"
    MODELS = "GET /v1/models"
    INTENTS = "GET /v1/intents"
    CHAT = f"POST {CHAT_PATH}"
    COMPLETIONS = "POST /v1/completions"
    PREDICT = f"POST {_PREDICT_PREFIX}<alias>"
    METRICS = "GET /metrics"
    TOKENIZE = "POST /tokenize"
    STATUS = "GET /intent/status"


FOR_OPERATOR = frozenset({Route.METRICS, Route.TOKENIZE, Route.STATUS})
_EXACT: dict[str, Route] = {route.value: route for route in Route if route is not Route.PREDICT}


def find_route(scope: Scope) -> Route | None:
    """Return the route of a request, or None if it is not served.

    Paths with escapes and requests with a root path are not served: vLLM's router decodes or
    strips them, so the path could mean something else there than here.
    """
    method, path = scope["method"], scope["path"]
    route = _EXACT.get(f"{method} {path}")
    if route is None:
        alias = path.removeprefix(_PREDICT_PREFIX)
        if method != "POST" or alias == path or not alias or "/" in alias:
            return None
        route = Route.PREDICT
    raw = scope.get("raw_path")
    if scope.get("root_path") or not path.isascii() or raw not in (None, path.encode()):
        return None
    return route


def predicted_alias(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(_PREDICT_PREFIX)
