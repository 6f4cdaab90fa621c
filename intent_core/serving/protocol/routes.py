"""Which requests are served at all, and to whom."""

from enum import Enum

from intent_core.serving.protocol.asgi import Scope

CHAT_PATH = "/v1/chat/completions"
_PREDICT_PREFIX = "/api/predict/"


class Route(Enum):
    """A request that is served."""

    HEALTH = "GET /health"
    MODELS = "GET /v1/models"
    CHAT = f"POST {CHAT_PATH}"
    COMPLETIONS = "POST /v1/completions"
    PREDICT = f"POST {_PREDICT_PREFIX}<alias>"
    METRICS = "GET /metrics"
    TOKENIZE = "POST /tokenize"
    STATUS = "GET /intent/status"


FOR_OPERATOR = frozenset({Route.METRICS, Route.TOKENIZE, Route.STATUS})
_EXACT: dict[str, Route] = {route.value: route for route in Route if route is not Route.PREDICT}


def find_route(scope: Scope) -> Route | None:
    """The route of a request, None when it is not served.

    A path is served as it was sent or not at all: with an escape in it, or under a root path that
    vLLM's router would strip, it could mean another path there than here.
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
