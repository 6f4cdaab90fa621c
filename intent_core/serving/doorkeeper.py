"""What every request passes before it reaches vLLM.

Who asks (a key), what (a path on the list), of which model (an alias, which becomes the name of
the one model it means now). Whatever is in doubt ends here: vLLM guards /v1 only, and would join
any model name it is given to a path.
"""

import logging
import math
import time
from collections.abc import Callable

from intent_core.serving.aliases import AliasFile, is_content_name
from intent_core.serving.asgi import (
    App,
    BodyAgain,
    Receive,
    Scope,
    Send,
    find_values,
    read_body,
    send_json,
    send_refusal,
)
from intent_core.serving.bodies import (
    OlderRequest,
    bound_length,
    format_object,
    parse_object,
    parse_older_request,
    put_system_prompt,
    requested_model,
)
from intent_core.serving.exchange import Exchange, HeldAnswer
from intent_core.serving.keys import OPERATOR, KeyFile
from intent_core.serving.limits import RequestRate
from intent_core.serving.metrics import Metrics
from intent_core.serving.refusals import Headers, Reason, Refusal
from intent_core.serving.routes import (
    CHAT_PATH,
    FOR_OPERATOR,
    Route,
    find_route,
    predicted_alias,
)
from intent_core.serving.settings import ServingSettings

ACCESS_LOG = "intent.access"
access_log = logging.getLogger(ACCESS_LOG)

_CLIENT_LEFT = 499
_REPLACED = frozenset({b"authorization", b"content-length", b"transfer-encoding"})


class Doorkeeper:
    """A pure ASGI application around vLLM's."""

    def __init__(
        self,
        app: App,
        settings: ServingSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._aliases = AliasFile(settings.aliases_file)
        self._keys = KeyFile(settings.keys_file, settings.operator_key)
        self._rate = RequestRate(settings.requests_per_minute, clock)
        self._authorization = (b"authorization", b"Bearer " + settings.operator_key.encode())
        self._started = int(time.time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(send)
        since = self._clock()
        status = 500
        try:
            try:
                await self._answer(exchange, scope, receive)
            except Refusal as refusal:
                self._metrics.count_refusal(refusal.reason)
                await send_refusal(exchange.send, refusal)
            status = _CLIENT_LEFT
        finally:
            status = exchange.status or status
            seconds = self._clock() - since
            self._metrics.count_request(exchange.alias, exchange.version, exchange.caller, status)
            access_log.info(
                "caller=%s alias=%s model=%s version=%s status=%d ms=%.1f",
                exchange.caller or "-",
                exchange.alias or "-",
                exchange.model or "-",
                exchange.version or "-",
                status,
                seconds * 1000,
            )

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        route = find_route(scope)
        if route is Route.HEALTH:
            await self._app(scope, receive, exchange.send)
            return
        exchange.caller = caller = self._find_caller(scope, route)
        operator = caller == OPERATOR
        if route is None or (route in FOR_OPERATOR and not operator):
            raise Refusal(Reason.PATH, "this path is not served")
        wait_s = 0.0 if operator else self._rate.take(caller)
        if wait_s:
            again = (b"retry-after", str(max(1, math.ceil(round(wait_s, 3)))).encode())
            raise Refusal(Reason.RATE, "too many requests within a minute", [again])
        if route is Route.STATUS:
            await send_json(exchange.send, self._describe())
        elif route is Route.MODELS and not operator:
            await send_json(exchange.send, self._list_aliases())
        elif route in (Route.MODELS, Route.METRICS):
            inner = {**scope, "headers": self._vouch(scope)}
            await self._app(inner, receive, exchange.send)
        else:
            await self._ask(exchange, route, scope, receive)

    def _find_caller(self, scope: Scope, route: Route | None) -> str:
        token = _read_token(scope["headers"], bare=route is Route.PREDICT)
        caller = self._keys.find_caller(token) if token else None
        if caller is None:
            challenge = [(b"www-authenticate", b"Bearer")]
            raise Refusal(Reason.KEY, "no valid key: send 'Authorization: Bearer <key>'", challenge)
        return caller

    async def _ask(self, exchange: Exchange, route: Route, scope: Scope, receive: Receive) -> None:
        """Hand the request to the model it means."""
        body = await read_body(scope, receive, self._settings.max_body_bytes)
        if body is None:
            return
        fields = parse_object(body)
        older = parse_older_request(fields) if route is Route.PREDICT else None
        name = predicted_alias(scope) if older else requested_model(fields)
        system_prompt = self._resolve(exchange, name)
        if older:
            fields = older.to_chat(system_prompt)
        elif route is Route.CHAT:
            put_system_prompt(fields, system_prompt)
        bound_length(fields, self._settings.max_new_tokens)
        fields["model"] = exchange.model
        body = format_object(fields)
        inner = {**scope, "headers": self._vouch(scope, body)}
        again = BodyAgain(body, receive)
        since = self._clock()
        self._metrics.enter(exchange.model)
        try:
            if older:
                texts = await self._ask_for_older(exchange, older, inner, again)
            else:
                exchange.judged = route is Route.CHAT
                await self._app(inner, again, exchange.send)
                texts = exchange.read_texts()
        finally:
            self._metrics.leave(exchange.model)
            seconds = self._clock() - since
            self._metrics.time_request(exchange.alias, exchange.version, seconds)
        for text in texts:
            self._metrics.judge_answer(exchange.alias, exchange.version, text)

    async def _ask_for_older(
        self, exchange: Exchange, older: OlderRequest, scope: Scope, receive: BodyAgain
    ) -> list[str]:
        """Ask for a chat and answer in the older form; the texts of the chat's answer."""
        headers = [h for h in scope["headers"] if h[0].lower() != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        chat = {"path": CHAT_PATH, "raw_path": CHAT_PATH.encode(), "headers": headers}
        held = HeldAnswer()
        await self._app({**scope, **chat}, receive, held.send)
        # To a client that left vLLM answers `null`, which is nothing to convert.
        if not receive.client_left:
            await held.pass_on(exchange.send, older.to_answer)
        return held.read_texts()

    def _resolve(self, exchange: Exchange, name: str) -> str:
        """Note which model a name means; its system prompt, "" for none."""
        aliases = self._aliases.read()
        target = aliases.get(name)
        if target is not None:
            exchange.alias, exchange.version = name, target.version
            exchange.model = target.model
            return target.system_prompt if self._settings.add_system_prompt else ""
        if exchange.caller == OPERATOR and is_content_name(name):
            exchange.model = name
            return ""
        if not aliases:
            raise Refusal(Reason.NOTHING_PROMOTED, "no model has been promoted yet")
        raise Refusal(Reason.MODEL, f"the model {name[:80]!r} does not exist")

    def _vouch(self, scope: Scope, body: bytes | None = None) -> Headers:
        """The headers with vLLM's own key for the caller's, and the length of a new body."""
        if body is None:
            kept = [h for h in scope["headers"] if h[0].lower() != b"authorization"]
            return [*kept, self._authorization]
        kept = [h for h in scope["headers"] if h[0].lower() not in _REPLACED]
        return [*kept, self._authorization, (b"content-length", str(len(body)).encode())]

    def _list_aliases(self) -> dict[str, object]:
        """OpenAI's list of models: public names, and nothing of what they mean."""
        common = {"object": "model", "created": self._started, "owned_by": "intent"}
        data = [{"id": alias, **common} for alias in self._aliases.read()]
        return {"object": "list", "data": data}

    def _describe(self) -> dict[str, object]:
        aliases = {
            alias: {"model": target.model, "version": target.version}
            for alias, target in self._aliases.read().items()
        }
        return {"aliases": aliases, "in_flight": self._metrics.read_in_flight()}


def _read_token(headers: Headers, bare: bool) -> bytes:
    """The key of a request, b"" without one; `bare`: the older service took it without a scheme."""
    values = find_values(headers, b"authorization")
    if len(values) > 1:
        raise Refusal(Reason.AUTHORIZATION, "more than one Authorization header")
    value = values[0].strip() if values else b""
    scheme, blank, token = value.partition(b" ")
    if blank and scheme.lower() == b"bearer":
        return token.strip()
    return value if bare and not blank else b""
