"""Sends a request with a grammar and, if vLLM cannot use the grammar, once more without it."""

import logging

from intent_core.serving.metrics import Metrics
from intent_core.serving.protocol.asgi import App, AsgiMessage, BodyAgain, Scope, Send

logger = logging.getLogger(__name__)

_STREAMED_ERROR = b'data: {"error"'


class Fallback:
    """Calls vLLM; a request whose grammar fails is repeated before its caller notices."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: BodyAgain, send: Send) -> None:
        if receive.without_grammar is None:
            await self._app(scope, receive, send)
            return
        answer = _HeldErrors(send)
        try:
            # A copy, because vLLM writes to its scope.
            await self._app(_copy(scope), receive, answer.send)
        except Exception:
            if answer.is_passed_on or receive.client_left:
                raise
            answer.is_error = True
        if answer.is_error and not receive.client_left:
            await self._repeat(scope, receive, send)
        else:
            await answer.pass_on()

    async def _repeat(self, scope: Scope, receive: BodyAgain, send: Send) -> None:
        body = receive.send_without_grammar()
        answer = _HeldErrors(send)
        await self._app({**scope, "headers": _with_length(scope, body)}, receive, answer.send)
        # The caller's own errors occur without the grammar, too.
        if not answer.is_error:
            self._metrics.count_dropped_grammar("not_usable")
            logger.warning("vLLM could not use a grammar; the request was repeated without it")
        await answer.pass_on()


class _HeldErrors:
    """Passes an answer on as soon as it is known not to be an error; holds errors."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[AsgiMessage] = []
        self.is_error = False
        self.is_passed_on = False

    async def send(self, message: AsgiMessage) -> None:
        if self.is_passed_on:
            await self._send(message)
            return
        self._held.append(message)
        if message["type"] == "http.response.start":
            self.is_error = message["status"] >= 400
        elif message.get("body") and not self.is_error:
            # A stream starts with status 200 before vLLM has compiled the grammar.
            self.is_error = message["body"].startswith(_STREAMED_ERROR)
            if not self.is_error:
                await self.pass_on()

    async def pass_on(self) -> None:
        """Send what is held; further messages are sent at once."""
        held, self._held = self._held, []
        self.is_passed_on = True
        for message in held:
            await self._send(message)


def _copy(scope: Scope) -> Scope:
    return {**scope, "state": dict(scope.get("state") or {})}


def _with_length(scope: Scope, body: bytes) -> list[tuple[bytes, bytes]]:
    kept = [h for h in scope["headers"] if h[0].lower() != b"content-length"]
    return [*kept, (b"content-length", str(len(body)).encode())]
