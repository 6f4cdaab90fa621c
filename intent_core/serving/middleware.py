"""The class for vLLM's `--middleware intent_core.serving.middleware.ServingMiddleware`."""

import logging
import os

from intent_core.serving.app import ACCESS_LOG, ServingApp
from intent_core.serving.metrics import process_metrics
from intent_core.serving.protocol.asgi import App, Receive, Scope, Send
from intent_core.serving.settings import read_settings


class ServingMiddleware:
    """A `ServingApp` configured by environment variables; see `read_settings`.

    This is the only place in `intent_core` that reads the environment: vLLM constructs the class
    itself and passes only the application.
    """

    def __init__(self, app: App) -> None:
        self._app = ServingApp(app, read_settings(os.environ), process_metrics())
        _show_access_log()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _show_access_log() -> None:
    """Add a handler to the access log: vLLM configures only its own loggers."""
    logger = logging.getLogger(ACCESS_LOG)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
